import type { NodeProto } from 'onnx-buf';
import type { ChannelTrace } from '../architecture/trace-channels.js';
import { UnsupportedModelError } from '../errors.js';
import { INT64 } from '../onnx/data-types.js';
import { type GraphIndex, nodeLabel } from '../onnx/graph-index.js';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import type { Repeat } from '../operators/axis-rule.js';
import { operatorOf } from '../operators/table.js';
import { type Resize, SAME, type UpdateSite } from '../operators/update-rule.js';
import type { GraphEditor } from './graph-editor.js';
import { type RemainingUnits, remainingPositions } from './remaining-positions.js';

export interface UpdateContext {
  readonly editor: GraphEditor;
  readonly trace: ChannelTrace;
  /** Index of the dense graph. */
  readonly index: GraphIndex;
  readonly facts: TwoRunFacts;
  readonly remaining: RemainingUnits;
}

/** Updates a node's sizes of axes that shrink. @throws UnsupportedModelError when they cannot be updated. */
export function updateNode(node: NodeProto, context: UpdateContext): void {
  const update = operatorOf(node)?.update;
  if (typeof update === 'function') update(makeSite(node, context));
}

function makeSite(node: NodeProto, { editor, trace, index, facts, remaining }: UpdateContext): UpdateSite {
  const dims = (value: string) => facts.first.get(value)?.dims ?? [];
  const isConstant = (value: string) => index.constants.has(value);
  const ints = (value: string): readonly number[] => {
    const known = facts.first.get(value)?.ints;
    if (known !== undefined) return known;
    throw new UnsupportedModelError(`${nodeLabel(node)} reads sizes from "${value}", whose values are unknown`);
  };
  return {
    node,
    unitCount: remaining.units.size,
    groupCount: remaining.groups.size,
    isGrouped: trace.groupOfUnit !== undefined,
    dims,
    ints,
    isConstant,
    labelOf: (value) => trace.labels.get(value),
    remainingPositions: (label) => remainingPositions(label, remaining),
    resizes(value) {
      const repeat = trace.repeats.find((found) => found.value === value);
      if (repeat !== undefined) return repeatSizes(repeat, remaining, dims(value));
      const label = trace.labels.get(value);
      if (label === undefined) return new Map();
      return new Map([[label.axis, { from: label.unitIds.length, to: remainingPositions(label, remaining).length }]]);
    },
    checkFixed(value, axis) {
      if (facts.first.get(value)?.dims[axis] === facts.second.get(value)?.dims[axis]) return;
      throw new UnsupportedModelError(
        `${nodeLabel(node)} selects channels on axis ${axis} of "${value}", whose size depends on batch or window; this cannot be pruned`,
      );
    },
    resizeEntries(slot, entries) {
      const source = node.input[slot] ?? '';
      ints(source);
      resizeEntries(editor, node, { slot, facts, isConstant: isConstant(source), entries });
    },
    setInts(slot, values) {
      node.input[slot] = editor.addInts(values);
    },
    scaleOutput(ratios, reads) {
      const [source = ''] = node.output;
      const readers = editor.consumersOf(source).filter(reads);
      const [first] = readers;
      if (first !== undefined) editor.rewire(readers, source, scaleInts(editor, { source, ratios }, first));
    },
  };
}

function repeatSizes({ groupAxis, memberAxis }: Repeat, { units, groups }: RemainingUnits, dims: readonly number[]) {
  return new Map<number, Resize>([
    [groupAxis, { from: dims[groupAxis] ?? 1, to: groups.size }],
    [memberAxis, { from: dims[memberAxis] ?? 1, to: units.size / groups.size }],
  ]);
}

/** An integer vector that a node reads (a shape, starts, repeats), and its entries that depend on pruned axes. */
interface SizeOperand {
  readonly slot: number;
  readonly facts: TwoRunFacts;
  readonly isConstant: boolean;
  /** By index of the entry; others are unchanged. */
  readonly entries: ReadonlyMap<number, Resize>;
}

/**
 * Resizes entries of a node's integer operand. A constant is replaced; of a Concat of single sizes, only the pieces of
 * these entries are; any other vector is scaled, which is also right for sizes that depend on the input.
 */
function resizeEntries(editor: GraphEditor, node: NodeProto, operand: SizeOperand): void {
  const { slot, facts, entries, isConstant } = operand;
  if (entries.size === 0) return;
  const source = node.input[slot] ?? '';
  const { ints = [], dataType = INT64 } = facts.first.get(source) ?? {};
  if (isConstant) {
    node.input[slot] = editor.addInts(
      ints.map((value, at) => entries.get(at)?.to ?? value),
      dataType,
    );
    return;
  }
  const pieces = singlePieces(editor, source, facts);
  if (pieces === undefined) {
    const ratios = ints.map((_, at) => entries.get(at) ?? SAME);
    node.input[slot] = scaleInts(editor, { source, ratios, dataType }, node);
    return;
  }
  const resized = pieces.map((piece, at) => {
    const ratio = entries.get(at);
    if (ratio === undefined) return piece;
    const isFixed = facts.first.get(piece)?.ints?.[0] === facts.second.get(piece)?.ints?.[0];
    return isFixed ? editor.addInts([ratio.to]) : scaleInts(editor, { source: piece, ratios: [ratio], dataType }, node);
  });
  const joined = editor.freshName(`${source}/pruned`);
  editor.insertBefore(node, { op: 'Concat', inputs: resized, outputs: [joined], attributes: { axis: 0 } });
  node.input[slot] = joined;
}

/** An integer vector and the factor of each entry, as a ratio. */
interface ScaledInts {
  readonly source: string;
  readonly ratios: readonly Resize[];
  readonly dataType?: number;
}

/** Scales an integer vector entry by entry, by nodes before `before`. @returns Name of the result. */
function scaleInts(editor: GraphEditor, { source, ratios, dataType = INT64 }: ScaledInts, before: NodeProto): string {
  const multiplied = editor.freshName(`${source}/multiplied`);
  const scaled = editor.freshName(`${source}/scaled`);
  const factors = editor.addInts(
    ratios.map(({ to }) => to),
    dataType,
  );
  const divisors = editor.addInts(
    ratios.map(({ from }) => from),
    dataType,
  );
  editor.insertBefore(before, { op: 'Mul', inputs: [source, factors], outputs: [multiplied] });
  editor.insertBefore(before, { op: 'Div', inputs: [multiplied, divisors], outputs: [scaled] });
  return scaled;
}

/** The operands of the Concat that computes a vector, if each of them is one entry. */
function singlePieces(editor: GraphEditor, source: string, { first }: TwoRunFacts): readonly string[] | undefined {
  const producer = editor.producerOf(source);
  const isSingle = (piece: string): boolean => first.get(piece)?.ints?.length === 1;
  return producer?.opType === 'Concat' && producer.input.every(isSingle) ? producer.input : undefined;
}
