import type { NodeProto } from 'onnx-buf';
import { type AxisLabel, frontAxis, type Repeat } from '../architecture/axis-rules/axis-rule.js';
import { slicedPositions } from '../architecture/axis-rules/movement.js';
import type { ChannelTrace } from '../architecture/trace-channels.js';
import { UnsupportedModelError } from '../errors.js';
import { findAttribute, intAttribute, intsAttribute, setIntAttribute, setIntsAttribute } from '../graph/attributes.js';
import { type GraphIndex, nodeLabel, qualifiedOp } from '../graph/graph-index.js';
import type { TwinFacts } from '../graph/value-facts.js';
import type { GraphEditor } from './graph-editor.js';
import { type KeptUnits, keptPositions } from './kept-positions.js';
import { type Resize, resizeEntries, SAME, scaleInts } from './resize-entries.js';

export interface MendContext {
  readonly editor: GraphEditor;
  readonly trace: ChannelTrace;
  /** Index of the dense graph. */
  readonly index: GraphIndex;
  readonly facts: TwinFacts;
  readonly kept: KeptUnits;
}

type Mend = (node: NodeProto, context: MendContext) => void;

/** Mends what a node says in numbers about axes that shrink. Operators without a row say nothing. */
export function mendNode(node: NodeProto, context: MendContext): void {
  MENDS[qualifiedOp(node)]?.(node, context);
}

/** Each shrinking axis of a value, before and after the cut. */
function resizedAxes(value: string, { trace, kept, facts }: MendContext): Map<number, Resize> {
  const repeat = trace.repeats.find((found) => found.value === value);
  if (repeat !== undefined) return repeatSizes(repeat, kept, facts.first.get(value)?.dims ?? []);
  const label = trace.labels.get(value);
  if (label === undefined) return new Map();
  return new Map([[label.axis, { from: label.codes.length, to: keptPositions(label, kept).length }]]);
}

function repeatSizes({ groupAxis, memberAxis }: Repeat, { units, groups }: KeptUnits, dims: readonly number[]) {
  return new Map<number, Resize>([
    [groupAxis, { from: dims[groupAxis] ?? 1, to: groups.size }],
    [memberAxis, { from: dims[memberAxis] ?? 1, to: units.size / groups.size }],
  ]);
}

function observedInts(value: string, { facts }: MendContext, node: NodeProto): readonly number[] {
  const ints = facts.first.get(value)?.ints;
  if (ints === undefined) {
    throw new UnsupportedModelError(`${nodeLabel(node)} reads sizes from "${value}", whose contents are not known`);
  }
  return ints;
}

function resizeOperand(
  node: NodeProto,
  slot: number,
  entries: ReadonlyMap<number, Resize>,
  context: MendContext,
): void {
  const source = node.input[slot] ?? '';
  observedInts(source, context, node);
  const isConstant = context.index.constants.has(source);
  resizeEntries(context.editor, node, { slot, facts: context.facts, isConstant, entries });
}

/** Positions along an axis mean something only while its size does not follow the input. */
function checkFixed(node: NodeProto, value: string, axis: number, { facts }: MendContext): void {
  if (facts.first.get(value)?.dims[axis] === facts.second.get(value)?.dims[axis]) return;
  throw new UnsupportedModelError(
    `${nodeLabel(node)} takes channels out of axis ${axis} of "${value}", whose size follows batch or window; this cannot be narrowed`,
  );
}

/** Sizes of an output spelled out in a shape operand; entries of 0 and -1 mend themselves. */
const mendShapeOperand: Mend = (node, context) => {
  const shape = observedInts(node.input[1] ?? '', context, node);
  const axes = [...resizedAxes(node.output[0] ?? '', context)];
  resizeOperand(node, 1, new Map(axes.filter(([axis]) => (shape[axis] ?? 0) > 0)), context);
};

/** Expand aligns its shape from the right, and an entry of 1 leaves an axis as it is. */
const mendExpand: Mend = (node, context) => {
  const shape = observedInts(node.input[1] ?? '', context, node);
  const output = node.output[0] ?? '';
  const shift = (context.facts.first.get(output)?.dims.length ?? 0) - shape.length;
  const axes = [...resizedAxes(output, context)].map(([axis, resize]) => [axis - shift, resize] as const);
  resizeOperand(node, 1, new Map(axes.filter(([axis]) => (shape[axis] ?? 1) > 1)), context);
};

/** An operand of size 1 along the units is blown up by a repeat count. */
const mendTile: Mend = (node, context) => {
  const repeats = observedInts(node.input[1] ?? '', context, node);
  const axes = [...resizedAxes(node.output[0] ?? '', context)];
  resizeOperand(node, 1, new Map(axes.filter(([axis]) => repeats[axis] !== 1)), context);
};

/** What is computed from sizes of narrowed values goes on speaking of the dense model: operands are mended one by one. */
const mendShape: Mend = (node, context) => {
  const { editor, index } = context;
  const [output = ''] = node.output;
  const start = intAttribute(node, 'start', 0);
  const rank = context.facts.first.get(node.input[0] ?? '')?.dims.length ?? 0;
  const size = context.facts.first.get(output)?.dims[0] ?? rank;
  const resized = new Map(
    [...resizedAxes(node.input[0] ?? '', context)].map(([axis, ratio]) => [axis - frontAxis(start, rank), ratio]),
  );
  const takesOther = (reader: NodeProto): boolean => {
    const [, indices = ''] = reader.input;
    if (reader.opType !== 'Gather' || !index.constants.has(indices)) return false;
    return observedInts(indices, context, reader).every((at) => !resized.has(frontAxis(at, size)));
  };
  const readers = editor.consumersOf(output).filter((reader) => !takesOther(reader));
  const [first] = readers;
  if (first === undefined) return;
  const ratios = Array.from({ length: size }, (_, at) => {
    const { from, to } = resized.get(at) ?? SAME;
    return { from: to, to: from };
  });
  editor.rewire(readers, output, scaleInts(editor, { source: output, ratios }, first));
};

const mendSplit: Mend = (node, context) => {
  const whole = context.trace.labels.get(node.input[0] ?? '');
  const rank = context.facts.first.get(node.input[0] ?? '')?.dims.length ?? 0;
  if (whole === undefined || frontAxis(intAttribute(node, 'axis', 0), rank) !== whole.axis) return;
  checkFixed(node, node.input[0] ?? '', whole.axis, context);
  const sizes = node.output.map((value) => {
    const label = context.trace.labels.get(value);
    return label === undefined
      ? (context.facts.first.get(value)?.dims[whole.axis] ?? 0)
      : keptPositions(label, context.kept).length;
  });
  if (intsAttribute(node, 'split') !== undefined) {
    setIntsAttribute(node, 'split', sizes);
    return;
  }
  node.attribute = node.attribute.filter(({ name }) => name !== 'num_outputs');
  node.input[1] = context.editor.addInts(sizes);
};

const mendSlice: Mend = (node, context) => {
  const input = node.input[0] ?? '';
  const label = context.trace.labels.get(input);
  const dims = context.facts.first.get(input)?.dims ?? [];
  if (label === undefined) return;
  const ints = (value: string): readonly number[] => observedInts(value, context, node);
  const taken = slicedPositions({ node, ints }, label.axis, dims);
  if (taken === undefined) return;
  checkFixed(node, input, label.axis, context);
  const { start, end } = newBounds(node, taken, label, context);
  if (intsAttribute(node, 'starts') !== undefined) {
    const axes = intsAttribute(node, 'axes') ?? intsAttribute(node, 'starts')!.map((_, at) => at);
    const at = axes.findIndex((axis) => frontAxis(axis, dims.length) === label.axis);
    setIntsAttribute(node, 'starts', intsAttribute(node, 'starts')!.with(at, start));
    setIntsAttribute(node, 'ends', (intsAttribute(node, 'ends') ?? []).with(at, end));
    return;
  }
  const axes = node.input[3] ? ints(node.input[3]) : ints(node.input[1] ?? '').map((_, at) => at);
  const at = axes.findIndex((axis) => frontAxis(axis, dims.length) === label.axis);
  for (const [slot, bound] of [
    [1, start],
    [2, end],
  ] as const) {
    const from = ints(node.input[slot] ?? '')[at] ?? 0;
    resizeOperand(node, slot, new Map([[at, { from, to: bound }]]), context);
  }
};

/** Bounds that take the surviving positions out of the narrowed axis; their step must stay what it was. */
function newBounds(node: NodeProto, taken: readonly number[], label: AxisLabel, { kept }: MendContext) {
  const newIndex = new Map([...keptPositions(label, kept)].map((position, at) => [position, at]));
  const positions = taken.map((position) => newIndex.get(position)).filter((at) => at !== undefined);
  const step = taken.length > 1 ? taken[1]! - taken[0]! : 1;
  const [start = 0] = positions;
  if (positions.some((position, at) => position !== start + at * step)) {
    throw new UnsupportedModelError(
      `${nodeLabel(node)} takes every ${step}th channel, and what is left of them is not evenly spaced`,
    );
  }
  const end = (positions.at(-1) ?? start - step) + Math.sign(step);
  return { start, end: end < 0 ? -Number.MAX_SAFE_INTEGER : end };
}

const mendGather: Mend = (node, context) => {
  const [table = '', indices = ''] = node.input;
  const label = context.trace.labels.get(table);
  const output = context.trace.labels.get(node.output[0] ?? '');
  const rank = context.facts.first.get(table)?.dims.length ?? 0;
  if (label === undefined || frontAxis(intAttribute(node, 'axis', 0), rank) !== label.axis) return;
  checkFixed(node, table, label.axis, context);
  const newIndex = new Map([...keptPositions(label, context.kept)].map((position, at) => [position, at]));
  const old = observedInts(indices, context, node).map((at) => frontAxis(at, label.codes.length));
  const kept = output === undefined ? old.map((_, at) => at) : [...keptPositions(output, context.kept)];
  node.input[1] = context.editor.addInts(kept.map((at) => newIndex.get(old[at] ?? 0) ?? 0));
};

/** Head counts of fused attention: query heads are the units; KV heads their groups, or one per unit, or one for all. */
const mendHeadCounts =
  (queryAttribute: string, kvAttribute?: string): Mend =>
  (node, { kept, trace }) => {
    if (kvAttribute !== undefined && findAttribute(node, kvAttribute)) {
      const isShared = trace.groupOfUnit === undefined && intAttribute(node, kvAttribute, 1) === 1;
      if (!isShared) setIntAttribute(node, kvAttribute, kept.groups.size);
    }
    if (findAttribute(node, queryAttribute)) setIntAttribute(node, queryAttribute, kept.units.size);
  };

const mendPackedAttention: Mend = (node, context) => {
  const sizes = intsAttribute(node, 'qkv_hidden_sizes');
  const heads = intAttribute(node, 'num_heads', 1);
  if (sizes !== undefined) {
    setIntsAttribute(
      node,
      'qkv_hidden_sizes',
      sizes.map((size) => (size / heads) * context.kept.units.size),
    );
  }
  setIntAttribute(node, 'num_heads', context.kept.units.size);
};

const mendRotary: Mend = (node, context) => {
  const heads = intAttribute(node, 'num_heads', 0);
  const label = context.trace.labels.get(node.input[0] ?? '');
  if (heads === 0 || label === undefined) return;
  setIntAttribute(node, 'num_heads', (heads * keptPositions(label, context.kept).length) / label.codes.length);
};

const MENDS: Readonly<Record<string, Mend>> = {
  Reshape: mendShapeOperand,
  Expand: mendExpand,
  Shape: mendShape,
  Tile: mendTile,
  Split: mendSplit,
  Slice: mendSlice,
  Gather: mendGather,
  'com.microsoft.GroupQueryAttention': mendHeadCounts('num_heads', 'kv_num_heads'),
  'com.microsoft.MultiHeadAttention': mendHeadCounts('num_heads'),
  Attention: mendHeadCounts('q_num_heads', 'kv_num_heads'),
  'com.microsoft.Attention': mendPackedAttention,
  RotaryEmbedding: mendRotary,
  'com.microsoft.RotaryEmbedding': mendRotary,
  'com.microsoft.MRotaryEmbedding': mendRotary,
};
