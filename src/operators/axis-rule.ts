import type { NodeProto } from 'onnx-buf';

/**
 * Codes of a labelled axis, one per position:
 * `u >= 0` a unit (neuron or head), `groupCode(g)` what a KV group shares, `FREE` nothing that can be removed.
 */
export type Codes = Int32Array;

/** A position that no unit owns. */
export const FREE = -1;

/** Code of what KV group `g` shares; the inverse is `groupOf`. */
export const groupCode = (group: number): number => -2 - group;

/** Group of a code, or `undefined` when it is none. */
export const groupOf = (code: number): number | undefined => (code <= -2 ? -2 - code : undefined);

/** The axis of a value along which the units lie. */
export interface AxisLabel {
  readonly axis: number;
  readonly codes: Codes;
}

/** A node seen from the port through which the labels arrive. */
export interface RuleSite {
  readonly node: NodeProto;
  /** Whether the labelled value is an input or an output of the node, and at which position. */
  readonly side: 'input' | 'output';
  readonly slot: number;
  readonly label: AxisLabel;
  /** Concrete dims of a value; throws `TraceStop` when they are unknown. */
  dims(value: string): readonly number[];
  /** Contents of a small integer value; throws `TraceStop` when they are unknown. */
  ints(value: string): readonly number[];
  /** Whether the value comes only from weights and constants. */
  isConstant(value: string): boolean;
  /** Node that makes a value. */
  producerOf(value: string): NodeProto | undefined;
}

/** A label for another port of the node. */
export interface Finding {
  readonly value: string;
  readonly label: AxisLabel;
}

/** A grouped repeat of KV heads: the value `[.., groups, members, ..]` between Expand and Reshape. */
export interface Repeat {
  readonly value: string;
  readonly groupAxis: number;
  readonly memberAxis: number;
}

export interface RuleResult {
  readonly findings: readonly Finding[];
  /** KV group of each unit, when the node tells. */
  readonly groupOfUnit?: Int32Array;
  /** Whether the node says that all heads attend to one key and value. */
  readonly sharesKeyValue?: boolean;
  readonly repeat?: Repeat;
}

/** Carries labels from one port of a node to the others. @throws TraceStop, NeedCoarserUnits */
export type AxisRule = (site: RuleSite) => RuleResult;

/** Recognition ends here; a reason for a person. Data on its way to the top, never shown as an error of its own. */
export class TraceStop extends Error {}

/** A number is computed from all channels of a value together, so that they cannot leave it one by one. */
export class ReducedTogether extends TraceStop {}

/** The units are too fine for this node: it treats runs of `channels` output channels as one. */
export class NeedCoarserUnits extends Error {
  constructor(readonly unitCount: number) {
    super(`needs ${unitCount} units`);
  }
}

/** No other port carries the labels. */
export const NOTHING: RuleResult = { findings: [] };

/** All named ports of a node with their values. */
export function portsOf(node: NodeProto): { side: 'input' | 'output'; slot: number; value: string }[] {
  return [
    ...node.input.map((value, slot) => ({ side: 'input' as const, slot, value })),
    ...node.output.map((value, slot) => ({ side: 'output' as const, slot, value })),
  ].filter(({ value }) => value !== '');
}

/** Value at the port the labels came through. */
export function arrivedAt({ node, side, slot }: RuleSite): string {
  return (side === 'input' ? node.input[slot] : node.output[slot]) ?? '';
}

/** Carries codes, by default those that arrived, to an axis of the first output, or from an output to the first input. */
export function toOther({ node, side, label }: RuleSite, axis: number, codes = label.codes): RuleResult {
  const [value = ''] = side === 'input' ? node.output : node.input;
  return { findings: [{ value, label: { axis, codes } }] };
}

/** Codes at some positions. */
export const pickCodes = (codes: Codes, positions: readonly number[]): Codes =>
  Int32Array.from(positions, (position) => codes[position] ?? FREE);

/** Codes put back to the positions that they were picked from. @throws TraceStop when two units were picked from one. */
export function spreadCodes(codes: Codes, positions: readonly number[], size: number): Codes {
  const wide = new Int32Array(size).fill(FREE);
  positions.forEach((position, at) => {
    const [code = FREE, known = FREE] = [codes[at], wide[position]];
    if (known !== FREE && known !== code) throw new TraceStop('several units are read from one position');
    wide[position] = code;
  });
  return wide;
}
