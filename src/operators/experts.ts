import type { NodeProto } from 'onnx-buf';
import { floatAttribute, intAttribute, textAttribute } from '../onnx/attributes.js';
import { FLOAT32, INT64 } from '../onnx/data-types.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import { MIN_FLOAT32, type TensorOps } from '../onnx/tensor-ops.js';
import { elementCount, type Value } from '../onnx/value.js';
import type { AxisLabel } from './axis-rule.js';
import { type Lowering, type LoweringContext, unsupported } from './gradient-rule.js';
import { type Family, type Gradient, missing, type Operator, PLAIN } from './operator.js';
import { unpackBits } from './quantised.js';

/** Weights of both linear layers of all experts, `[E, F, C]` and `[E, C, F']`, and the inputs of their biases. */
interface ExpertLinears {
  readonly first: Value;
  readonly firstBias: number;
  readonly second: Value;
  readonly secondBias: number;
}

/**
 * A mixture of experts as a dense computation: every expert for every token, with a routing weight of 0 for experts
 * that are not chosen. Inputs: 0 `[.., C]`, 1 the router's scores `[T, E]`.
 */
function mixExperts(c: LoweringContext): Value[] {
  const { o } = c;
  const { dims } = c.input(0);
  const [tokens = 1, experts = 1] = c.input(1).dims;
  const isLarge = c.node.opType === 'QMoE' && unpackedBytes(c) > MAX_UNPACKED_BYTES;
  const outputs = isLarge ? undefined : outputsOfExperts(c, tokens);
  const routing = o.reshape(o.transpose(routingWeights(c), [1, 0]), [experts, tokens, 1]);
  const mixed = outputs === undefined ? mixOneByOne(c, routing) : o.sum(o.mul(outputs, routing), [0], false);
  return [o.reshape(mixed, dims)];
}

/** Outputs of all experts for all tokens, `[E, T, C]`. */
function outputsOfExperts(c: LoweringContext, tokens: number): Value {
  const linears = expertLinears(c);
  return plusBias(
    c,
    c.o.matMul(innerNeurons(c, linears, tokens), linears.second, { transB: true }),
    linears.secondBias,
  );
}

/** Inputs of QMoE with packed weights. */
const CODES: ReadonlySet<number> = new Set([2, 5]);

/** Most bytes of a packed mixture's weights as floats that are unpacked together; larger ones are unpacked expert by expert. */
const MAX_UNPACKED_BYTES = 2 ** 24;

function unpackedBytes({ node, input }: LoweringContext): number {
  const weights = [2, 5].reduce((sum, slot) => sum + elementCount(input(slot).dims), 0);
  return (4 * weights * 8) / intAttribute(node, 'expert_weight_bits', 4);
}

/**
 * The sum of the experts' outputs for all tokens, times their routing weights `[E, T, 1]`. Each expert's weights are
 * unpacked separately: ONNX Runtime computes one term after the other, and frees its inputs.
 */
function mixOneByOne({ node, o, has, input }: LoweringContext, routing: Value): Value {
  const [tokens = 1, experts = 1] = input(1).dims;
  // Always 0. A data-dependent index prevents ONNX Runtime from folding all unpacked experts to constants.
  const score = o.slice(o.reshape(input(1), [tokens * experts]), 0, { start: 0, end: 1 });
  const zero = o.cast(o.less(score, MIN_FLOAT32), INT64);
  const terms = Array.from({ length: experts }, (_, expert) => {
    const index = o.add(zero, expert);
    const codes = (value: Value): Value =>
      o.emitter.node('Gather', [value, index], { ...value, dims: value.dims.with(0, 1), attributes: { axis: 0 } });
    // Gradients of slices are concatenated once; that of each Gather would be as large as all experts.
    const others = (value: Value): Value => o.slice(value, 0, { start: expert, end: expert + 1 });
    const inputOfExpert = (slot: number): Value => {
      if (slot < 2) return input(slot);
      return (CODES.has(slot) ? codes : others)(input(slot));
    };
    const own = { node, o, has, input: inputOfExpert };
    return o.mul(outputsOfExperts(own, tokens), o.slice(routing, 0, { start: expert, end: expert + 1 }));
  });
  return terms.reduce((sum, term) => o.add(sum, term));
}

/** Neurons of all experts for all tokens, `[E, T, F]`. */
function innerNeurons(c: LoweringContext, { first, firstBias }: ExpertLinears, tokens: number): Value {
  const { o } = c;
  const x = o.reshape(c.input(0), [1, tokens, c.input(0).dims.at(-1) ?? 1]);
  return activate(c, plusBias(c, o.matMul(x, first, { transB: true }), firstBias));
}

/** Weights of a fused mixture's linear layers as floats. */
const expertLinears = (c: LoweringContext): ExpertLinears =>
  c.node.opType === 'QMoE' ? packedLinears(c) : floatLinears(c);

/** Inputs: 2 and 3 weight and bias of the first linear layer (fc1), 4 and 5 of the second (fc2), 6 and 7 of a third (fc3). */
function floatLinears(c: LoweringContext): ExpertLinears {
  if (c.has(6)) throw unsupported(c.node, THIRD_LINEAR);
  return { first: c.input(2), firstBias: 3, second: c.input(4), secondBias: 5 };
}

/**
 * The same with packed weights `[E, N, K bits / 8]`. Inputs: 2 to 4 packed weight, scales and bias of the first linear
 * layer, 5 to 7 of the second, 8 to 10 of a third, 11 and 12 zero points, 14 routing weights.
 */
function packedLinears(c: LoweringContext): ExpertLinears {
  if (c.has(8)) throw unsupported(c.node, THIRD_LINEAR);
  return {
    first: unpackExperts(c, { weight: 2, scales: 3, zeroPoints: 11 }),
    firstBias: 4,
    second: unpackExperts(c, { weight: 5, scales: 6, zeroPoints: 12 }),
    secondBias: 7,
  };
}

const THIRD_LINEAR = 'its experts have a third linear layer (fc3).';

const mixPackedExperts: Lowering = (c) => {
  if (c.has(14)) throw unsupported(c.node, 'its routing weights are an input of their own (router_weights).');
  // ONNX Runtime's CPU kernel normalises them to a sum of 1 in any case, other kernels do not.
  if (intAttribute(c.node, 'normalize_routing_weights', 0) !== 1)
    throw unsupported(c.node, 'its routing weights do not sum to 1 (normalize_routing_weights is 0).');
  return mixExperts(c);
};

/** Neurons of a fused mixture's experts for rows `[T, C]`, input 0: `[E, T, F]`. */
export const neuronsOfExperts = (c: LoweringContext): Value =>
  innerNeurons(c, expertLinears(c), c.input(0).dims.at(-2) ?? 1);

/** Second linear layer of a fused mixture's experts as floats, `[E, C, F]`. */
export const secondLinearOfExperts = (c: LoweringContext): Value => expertLinears(c).second;

/** Inputs of a packed linear layer. */
interface PackedLinear {
  readonly weight: number;
  /** `[E, N]`, or `[E, N, blocks]`. */
  readonly scales: number;
  readonly zeroPoints: number;
}

/** A packed weight as floats `[E, N, K]`: `(q - zero point) scale`, block by block. */
function unpackExperts(c: LoweringContext, { weight, scales, zeroPoints }: PackedLinear): Value {
  const { o, node } = c;
  const bits = intAttribute(node, 'expert_weight_bits', 4);
  if (!['', 'int'].includes(textAttribute(node, 'quant_type')))
    throw unsupported(node, `its weights are "${textAttribute(node, 'quant_type')}".`);
  const [experts = 1, rows = 1, bytes = 1] = c.input(weight).dims;
  const size = (bytes * 8) / bits;
  const blocks = c.input(scales).dims[2] ?? 1;
  const blockSize = blockSizeOf(node, size, blocks);
  if (Math.ceil(size / blockSize) !== blocks || !Number.isInteger(blockSize))
    throw unsupported(node, `rows of ${size} weights cannot be divided into ${blocks} blocks.`);
  const unpack = (input: number, dims: readonly number[]) => o.reshape(unpackBits(c, c.input(input), bits), dims);
  const levels = o.pad(unpack(weight, [experts, rows, size]), 2, { before: 0, after: blocks * blockSize - size });
  const points = c.has(zeroPoints) ? c.input(zeroPoints).dims : [];
  // Rows with one scale each share bytes of zero points.
  const packedPoints = points.length === 2 ? 1 : (points[2] ?? 0) * (8 / bits);
  const centre =
    packedPoints > 0
      ? o.slice(unpack(zeroPoints, [experts, rows, packedPoints, 1]), 2, { start: 0, end: blocks })
      : 2 ** (bits - 1);
  const centred = o.sub(o.reshape(levels, [experts, rows, blocks, blockSize]), centre);
  const scaled = o.mul(centred, o.reshape(c.input(scales), [experts, rows, blocks, 1]));
  return o.slice(o.reshape(scaled, [experts, rows, blocks * blockSize]), 2, { start: 0, end: size });
}

/** Weights of a packed row that share a scale. The last block of a row may be shorter. */
const blockSizeOf = (node: NodeProto, size: number, blocks: number): number =>
  blocks > 1 ? intAttribute(node, 'block_size', 0) || size / blocks : size;

const experts = (gradient: Gradient, parameters: Operator['parameters'] = {}): Operator => ({
  ...PLAIN,
  axis: missing('experts and their neurons are detected as one mixture'),
  tokens: 'experts',
  gradient,
  parameters,
});

/** ONNX Runtime's fused mixtures of experts. */
export const EXPERTS = {
  'com.microsoft.MoE': experts(
    { lower: mixExperts },
    { 2: 'matrix', 3: 'expert biases', 4: 'matrix', 5: 'expert biases' },
  ),
  'com.microsoft.QMoE': experts(
    { lower: mixPackedExperts },
    // Scales are trained; codes are not.
    { 3: 'matrix', 4: 'expert biases', 6: 'matrix', 7: 'expert biases' },
  ),
} as const satisfies Family;

/** Weights of a fused mixture that have a row for each expert, by name. */
export interface ExpertTensors {
  readonly all: readonly string[];
  /** Of the second linear layer. */
  readonly second: string;
  /** Scales of its codes. */
  readonly secondScales: string | undefined;
  /** Packed codes; the others are floats. */
  readonly codes: readonly string[];
  /** Scales and zero points, which are not parameters. */
  readonly scales: readonly string[];
  /** Weights in one element of the codes. */
  readonly perCode: number;
  /** An input after them. */
  readonly extra: string | undefined;
}

/** Input slots of weights, in order; later slots are of another kind. */
const SLOTS: Readonly<Record<string, Readonly<Record<'first' | 'second' | 'end', number>>>> = {
  'com.microsoft.MoE': { first: 2, second: 4, end: 8 },
  'com.microsoft.QMoE': { first: 2, second: 5, end: 14 },
};

/** Layout of the neurons inside the experts of a fused mixture. */
export interface NeuronAxes {
  /** Neurons of one expert. */
  readonly neuronCount: number;
  /** Consecutive neurons that can only be removed together, since their codes share a byte or a scale. */
  readonly unitSize: number;
  /** Unit of every position, by weight. */
  readonly labels: ReadonlyMap<string, AxisLabel>;
  readonly second: SecondLinear;
}

/** The experts' second linear layer, in which every neuron has its own column. */
export interface SecondLinear {
  readonly weight: string;
  /** Bits of a packed code; absent: floats. */
  readonly bits?: number;
  /** Packed like the codes; absent: the middle level. */
  readonly zeroPoints?: string;
  /** Scales of a row. Default 1. */
  readonly blocks?: number;
}

/** Slots with a row per neuron, and those of the second linear layer, where neurons are columns. */
const NEURON_SLOTS: Readonly<
  Record<
    string,
    Readonly<Record<'rowPoints' | 'second' | 'scales' | 'zeroPoints' | 'third', number>> & { rows: readonly number[] }
  >
> = {
  'com.microsoft.MoE': { rows: [2, 3], rowPoints: -1, second: 4, scales: -1, zeroPoints: -1, third: 6 },
  'com.microsoft.QMoE': { rows: [2, 3, 4, 11], rowPoints: 11, second: 5, scales: 6, zeroPoints: 12, third: 8 },
};

/**
 * Finds the neurons of a fused mixture's experts.
 * @param node a fused mixture
 * @returns the reason where they cannot be separated.
 */
export function neuronAxes(
  node: NodeProto,
  dims: (name: string) => readonly number[],
): NeuronAxes | { readonly reason: string } {
  const slots = NEURON_SLOTS[qualifiedOp(node)]!;
  const [second, scales, zeroPoints, third] = [slots.second, slots.scales, slots.zeroPoints, slots.third].map(
    (slot) => node.input[slot] ?? '',
  ) as [string, string, string, string];
  if (third !== '') return { reason: 'its experts have a third linear layer (fc3)' };
  const twice = node.input.find((name, at) => name !== '' && node.input.indexOf(name) < at);
  if (twice !== undefined) return { reason: `both linear layers read "${twice}"` };
  if (!['', 'int'].includes(textAttribute(node, 'quant_type')))
    return { reason: `its weights are "${textAttribute(node, 'quant_type')}"` };
  const bits = node.opType === 'QMoE' ? intAttribute(node, 'expert_weight_bits', 4) : undefined;
  const perElement = bits === undefined ? 1 : 8 / bits;
  const neuronCount = (dims(second)[2] ?? 0) * perElement;
  const blocks = dims(scales)[2] ?? 1;
  const blockSize = blockSizeOf(node, neuronCount, blocks);
  const isPacked = blocks > 1 && zeroPoints !== '';
  const unitSize = blocks > 1 ? blockSize * (isPacked ? perElement : 1) : perElement;
  if (neuronCount % unitSize !== 0)
    return {
      reason: `its ${neuronCount} neurons cannot be divided into runs of ${unitSize}, which share a byte or a scale`,
    };
  const isGated = textAttribute(node, 'activation_type') === 'swiglu';
  const fusion = intAttribute(node, 'swiglu_fusion', 0);
  const activation = textAttribute(node, 'activation_type') || 'relu';
  if (!isGated && !ACTIVATIONS.has(activation)) return { reason: `its activation is "${activation}"` };
  if (isGated && fusion === 0) return { reason: 'its gates are not rows of the first linear layer' };
  const neuronOfRow = (row: number) => (isGated && fusion === 1 ? Math.floor(row / 2) : row % neuronCount);
  const unitOf = (neuron: number) => Math.floor(neuron / unitSize);
  const labels = new Map<string, AxisLabel>();
  const label = (name: string, axis: number, neuronAt: (position: number) => number) =>
    labels.set(name, {
      axis,
      unitIds: Int32Array.from({ length: dims(name)[axis] ?? 0 }, (_, at) => unitOf(neuronAt(at))),
    });
  for (const name of slots.rows.map((slot) => node.input[slot] ?? '').filter((found) => found !== '')) {
    const rowCount = (isGated ? 2 : 1) * neuronCount;
    // Zero points of rows with one scale each share bytes.
    const perPosition = rowCount / (dims(name)[1] ?? 1);
    if (perPosition !== 1 && (name !== node.input[slots.rowPoints] || perPosition !== perElement))
      return { reason: `"${name}" has ${dims(name)[1]} rows for ${neuronCount} neurons` };
    label(name, 1, (at) => neuronOfRow(at * perPosition));
  }
  label(second, 2, (at) => at * perElement);
  if (blocks > 1) label(scales, 2, (at) => at * blockSize);
  if (isPacked) label(zeroPoints, 2, (at) => at * perElement * blockSize);
  return {
    neuronCount,
    unitSize,
    labels,
    second: { weight: second, ...(bits !== undefined && { bits, blocks }), ...(zeroPoints !== '' && { zeroPoints }) },
  };
}

/** Operators that contain an entire mixture except the router's product. */
export const FUSED_MIXTURES: ReadonlySet<string> = new Set(Object.keys(SLOTS));

/** @param node a fused mixture */
export function expertTensors(node: NodeProto): ExpertTensors {
  const { first, second, end } = SLOTS[qualifiedOp(node)]!;
  const isPacked = node.opType === 'QMoE';
  const named = (slots: readonly number[]) => slots.flatMap((slot) => node.input[slot] || []);
  return {
    all: named(Array.from({ length: end - first }, (_, at) => first + at)),
    second: node.input[second] ?? '',
    secondScales: isPacked ? node.input[second + 1] : undefined,
    codes: isPacked ? named([2, 5, 8]) : [],
    scales: isPacked ? named([3, 6, 9, 11, 12, 13]) : [],
    perCode: isPacked ? 8 / intAttribute(node, 'expert_weight_bits', 4) : 1,
    extra: node.input.slice(end).find((name) => name !== ''),
  };
}

/** Parameters per element, for the weights of packed mixtures by name. */
export function countPackedParameters(nodes: readonly NodeProto[]): ReadonlyMap<string, number> {
  const packed = nodes.filter(({ opType }) => opType === 'QMoE').map(expertTensors);
  return new Map(
    packed.flatMap(({ codes, scales, perCode }) => [
      ...codes.map((name) => [name, perCode] as const),
      ...scales.map((name) => [name, 0] as const),
    ]),
  );
}

/** Adds a bias `[E, F]` to `[E, T, F]`. */
function plusBias(c: LoweringContext, x: Value, input: number): Value {
  if (!c.has(input)) return x;
  const [experts = 1, , channels = 1] = x.dims;
  return c.o.add(x, c.o.reshape(c.input(input), [experts, 1, channels]));
}

/** Weights of the k best experts of each token, `[T, E]`; 0 for the others. */
function routingWeights(c: LoweringContext): Value {
  const { o } = c;
  const scores = c.input(1);
  const [tokens = 1, experts = 1] = scores.dims;
  if (intAttribute(c.node, 'use_sparse_mixer', 0) === 1) throw unsupported(c.node, 'use_sparse_mixer is set.');
  const better = o.greater(o.reshape(scores, [tokens, 1, experts]), o.reshape(scores, [tokens, experts, 1]));
  const isChosen = o.less(o.sum(o.cast(better, FLOAT32), [2], false), intAttribute(c.node, 'k', 1));
  if (intAttribute(c.node, 'normalize_routing_weights', 0) === 1)
    return o.softmax(o.where(isChosen, scores, MIN_FLOAT32));
  return o.where(isChosen, o.softmax(scores), 0);
}

const ACTIVATIONS: ReadonlyMap<string, (o: TensorOps, x: Value) => Value> = new Map([
  ['identity', (_: TensorOps, x: Value) => x],
  ['relu', (o: TensorOps, x: Value) => o.where(o.greater(x, 0), x, 0)],
  ['silu', (o: TensorOps, x: Value) => o.mul(x, o.sigmoid(x))],
]);

function activate(c: LoweringContext, x: Value): Value {
  const { o } = c;
  const type = textAttribute(c.node, 'activation_type') || 'relu';
  const plain = ACTIVATIONS.get(type);
  if (plain !== undefined) return plain(o, x);
  const fusion = intAttribute(c.node, 'swiglu_fusion', 0);
  if (type !== 'swiglu' || fusion === 0) throw unsupported(c.node, `its activation is "${type}".`);
  const [experts = 1, tokens = 1, channels = 1] = x.dims;
  const half = channels / 2;
  // Gate and linear part are interleaved (1) or concatenated (2).
  const paired = fusion === 1 ? [half, 2] : [2, half];
  const axis = fusion === 1 ? 3 : 2;
  const [gate, linear] = [0, 1].map((at) =>
    o.reshape(o.slice(o.reshape(x, [experts, tokens, ...paired]), axis, { start: at, end: at + 1 }), [
      experts,
      tokens,
      half,
    ]),
  ) as [Value, Value];
  const limit = floatAttribute(c.node, 'swiglu_limit', Number.POSITIVE_INFINITY);
  const isLimited = Number.isFinite(limit);
  const below = (value: Value) => (isLimited ? o.where(o.less(value, limit), value, limit) : value);
  const above = (value: Value) => (isLimited ? o.where(o.greater(value, -limit), value, -limit) : value);
  const [g, l] = [below(gate), above(below(linear))];
  const swish = o.mul(g, o.sigmoid(o.mul(g, floatAttribute(c.node, 'activation_alpha', 1))));
  return o.mul(swish, o.add(l, floatAttribute(c.node, 'activation_beta', 0)));
}
