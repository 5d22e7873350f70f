import type { NodeProto } from 'onnx-buf';

/**
 * Codes of a labelled axis, one per position: `u >= 0` a unit (neuron or head), `groupId(g)` a channel shared by a KV
 * group, `NO_UNIT` not removable.
 */
export type UnitIds = Int32Array;

/** A position that belongs to no unit. */
export const NO_UNIT = -1;

/** Code of channels shared by KV group `g`; the inverse is `groupOf`. */
export const groupId = (group: number): number => -2 - group;

/** Group of a code, or `undefined` for other codes. */
export const groupOf = (code: number): number | undefined => (code <= -2 ? -2 - code : undefined);

/** Axis of a value that carries units, with the code of each position. */
export interface AxisLabel {
  readonly axis: number;
  readonly unitIds: UnitIds;
}

/** A node, and the port from which labels are propagated. */
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
  /** Whether the value is computed only from weights and constants. */
  isConstant(value: string): boolean;
  /** Node that computes a value. */
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
  /** KV group of each unit, if the node defines it. */
  readonly groupOfUnit?: Int32Array;
  /** Whether the node shows that all heads share one key and value. */
  readonly sharesKeyValue?: boolean;
  readonly repeat?: Repeat;
}

/** Propagates labels from one port of a node to the others. @throws TraceStop, NeedCoarserUnits */
export type AxisRule = (site: RuleSite) => RuleResult;

/** Thrown to end a trace with a reason; it becomes data at the top, and is never shown as an error itself. */
export class TraceStop extends Error {}

/** Thrown where all channels of a value are reduced together, so that single ones cannot be removed. */
export class ReducedTogether extends TraceStop {}

/** Thrown where a node treats runs of channels as one unit, so that no more than `unitCount` units are possible. */
export class NeedCoarserUnits extends Error {
  constructor(readonly unitCount: number) {
    super(`needs ${unitCount} units`);
  }
}

/** No labels for other ports. */
export const NO_FINDINGS: RuleResult = { findings: [] };

/** All named ports of a node with their values. */
export function portsOf(node: NodeProto): { side: 'input' | 'output'; slot: number; value: string }[] {
  return [
    ...node.input.map((value, slot) => ({ side: 'input' as const, slot, value })),
    ...node.output.map((value, slot) => ({ side: 'output' as const, slot, value })),
  ].filter(({ value }) => value !== '');
}

/** Value at the port from which labels are propagated. */
export function labelledValue({ node, side, slot }: RuleSite): string {
  return (side === 'input' ? node.input[slot] : node.output[slot]) ?? '';
}

/** Propagates codes (default: the label's) to an axis of the first output, or from an output to the first input. */
export function toOtherSide({ node, side, label }: RuleSite, axis: number, unitIds = label.unitIds): RuleResult {
  const [value = ''] = side === 'input' ? node.output : node.input;
  return { findings: [{ value, label: { axis, unitIds } }] };
}

/** Codes at some positions. */
export const pickUnitIds = (unitIds: UnitIds, positions: readonly number[]): UnitIds =>
  Int32Array.from(positions, (position) => unitIds[position] ?? NO_UNIT);

/** Scatters codes back to the positions that they were picked from. @throws TraceStop when two units were picked from one. */
export function scatterUnitIds(unitIds: UnitIds, positions: readonly number[], size: number): UnitIds {
  const wide = new Int32Array(size).fill(NO_UNIT);
  positions.forEach((position, at) => {
    const [code = NO_UNIT, known = NO_UNIT] = [unitIds[at], wide[position]];
    if (known !== NO_UNIT && known !== code) throw new TraceStop('several units are read from one position');
    wide[position] = code;
  });
  return wide;
}
