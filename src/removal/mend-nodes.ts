import type { NodeProto } from 'onnx-buf';
import { type AxisLabel, frontAxis, type Repeat } from '../architecture/axis-rules/axis-rule.js';
import { slicedPositions } from '../architecture/axis-rules/movement.js';
import type { ChannelTrace } from '../architecture/trace-channels.js';
import { UnsupportedModelError } from '../errors.js';
import { findAttribute, intAttribute, intsAttribute, setIntAttribute, setIntsAttribute } from '../graph/attributes.js';
import { nodeLabel, qualifiedOp } from '../graph/graph-index.js';
import type { TwinFacts } from '../graph/value-facts.js';
import type { GraphEditor } from './graph-editor.js';
import { type KeptUnits, keptPositions } from './kept-positions.js';
import { overrideInts } from './override-ints.js';

export interface MendContext {
  readonly editor: GraphEditor;
  readonly trace: ChannelTrace;
  readonly facts: TwinFacts;
  readonly kept: KeptUnits;
}

type Mend = (node: NodeProto, context: MendContext) => void;

/** Mends what a node says in numbers about axes that shrink. Operators without a row say nothing. */
export function mendNode(node: NodeProto, context: MendContext): void {
  MENDS[qualifiedOp(node)]?.(node, context);
}

/** Size of each shrinking axis of a value after the cut. */
function newSizes(value: string, { trace, kept }: MendContext): Map<number, number> {
  const repeat = trace.repeats.find((found) => found.value === value);
  if (repeat !== undefined) return repeatSizes(repeat, kept);
  const label = trace.labels.get(value);
  return label === undefined ? new Map() : new Map([[label.axis, keptPositions(label, kept).length]]);
}

function repeatSizes({ groupAxis, memberAxis }: Repeat, { units, groups }: KeptUnits): Map<number, number> {
  return new Map([
    [groupAxis, groups.size],
    [memberAxis, units.size / groups.size],
  ]);
}

function observedInts(value: string, { facts }: MendContext, node: NodeProto) {
  const [first, second] = [facts.first.get(value)?.ints, facts.second.get(value)?.ints];
  if (first === undefined || second === undefined) {
    throw new UnsupportedModelError(`${nodeLabel(node)} reads sizes from "${value}", whose contents are not known`);
  }
  return { first, second };
}

/** Sizes of an output spelled out in a shape operand; entries of 0 and -1 mend themselves. */
const mendShapeOperand: Mend = (node, context) => {
  const shape = node.input[1] ?? '';
  const observed = observedInts(shape, context, node);
  const entries = new Map(
    [...newSizes(node.output[0] ?? '', context)].filter(([axis]) => (observed.first[axis] ?? 0) > 0),
  );
  overrideInts(context.editor, node, 1, { observed, entries });
};

/** An operand of size 1 along the units is blown up by a repeat count. */
const mendTile: Mend = (node, context) => {
  const repeats = node.input[1] ?? '';
  const observed = observedInts(repeats, context, node);
  const entries = new Map([...newSizes(node.output[0] ?? '', context)].filter(([axis]) => observed.first[axis] !== 1));
  overrideInts(context.editor, node, 1, { observed, entries });
};

const mendSplit: Mend = (node, context) => {
  const whole = context.trace.labels.get(node.input[0] ?? '');
  const rank = context.facts.first.get(node.input[0] ?? '')?.dims.length ?? 0;
  if (whole === undefined || frontAxis(intAttribute(node, 'axis', 0), rank) !== whole.axis) return;
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
  const ints = (value: string): readonly number[] => observedInts(value, context, node).first;
  const taken = slicedPositions({ node, ints }, label.axis, dims);
  if (taken === undefined) return;
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
    const observed = observedInts(node.input[slot] ?? '', context, node);
    overrideInts(context.editor, node, slot, { observed, entries: new Map([[at, bound]]) });
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
  if (label === undefined || output === undefined || frontAxis(intAttribute(node, 'axis', 0), rank) !== label.axis)
    return;
  const newIndex = new Map([...keptPositions(label, context.kept)].map((position, at) => [position, at]));
  const size = label.codes.length;
  const old = observedInts(indices, context, node).first.map((at) => frontAxis(at, size));
  node.input[1] = context.editor.addInts(
    [...keptPositions(output, context.kept)].map((at) => newIndex.get(old[at] ?? 0) ?? 0),
  );
};

/** Head counts of fused attention: query heads are the units on its output, KV heads their groups. */
const mendHeadCounts =
  (queryAttribute: string, kvAttribute?: string): Mend =>
  (node, { kept }) => {
    if (findAttribute(node, queryAttribute)) setIntAttribute(node, queryAttribute, kept.units.size);
    if (kvAttribute !== undefined && findAttribute(node, kvAttribute))
      setIntAttribute(node, kvAttribute, kept.groups.size);
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
  Expand: mendShapeOperand,
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
};
