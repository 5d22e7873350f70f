import type { GraphProto, NodeProto, TensorProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import { findAttribute, intsAttribute } from '../onnx/attributes.js';
import { findDataType, INT64 } from '../onnx/data-types.js';
import { nodeLabel, qualifiedOp, subgraphsOf } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { bytesHandle } from '../onnx/tensor-handle.js';
import { typedElementBytes } from '../onnx/typed-elements.js';
import type { ValueFact } from '../onnx/value-facts.js';
import { factOfWeight } from './probe-values.js';

/** Largest number of dims: more than any tensor has. */
const MAX_DIMS = 64;

/** Largest size of a convolution's kernel or padding: more than any decoder has, and its square still fits in memory. */
const MAX_EXTENT = 2 ** 10;

const namesTo = (limit: number, names: readonly string[]) => names.map((name) => [name, limit] as const);

/** Largest value of an attribute, for every operator: kernels index memory by it, or allocate that much, without a check. */
const ATTRIBUTE_LIMITS: ReadonlyMap<string, number> = new Map([
  ...namesTo(MAX_DIMS, ['axis', 'batch_dims', 'batch_axis', 'seq_axis', 'time_axis']),
  ...namesTo(MAX_EXTENT, ['pads', 'strides', 'dilations', 'kernel_shape', 'output_padding', 'output_shape']),
  ...namesTo(MAX_EXTENT, ['num_outputs']),
]);

/**
 * Operators for images, audio and random numbers; no decoder has them. Their kernels do not check sizes, scales and
 * ranges: they crash, never end, or use up all memory.
 */
const NON_DECODER_OPS: ReadonlySet<string> = new Set([
  ...['Resize', 'Upsample', 'GridSample', 'AffineGrid', 'RoiAlign', 'MaxRoiPool', 'MaxUnpool', 'LRN', 'Col2Im'],
  ...['CenterCropPad', 'DeformConv', 'ImageScaler', 'NonMaxSuppression', 'com.microsoft.CropAndResize'],
  ...['DFT', 'STFT', 'MelWeightMatrix', 'HannWindow', 'HammingWindow', 'BlackmanWindow'],
  ...['RandomNormal', 'RandomNormalLike', 'RandomUniform', 'RandomUniformLike', 'Multinomial', 'Bernoulli'],
]);

/** Numbers of an operator that its kernel does not check. */
interface Unchecked {
  /** Integer attributes, each with its largest value; the least is 1. */
  readonly counts?: Readonly<Record<string, number>>;
  /** Attributes with the sizes of parts of an input's last dim, each with the index of that input. */
  readonly parts?: Readonly<Record<string, number>>;
  /** Allowed ranks, by index of the input. */
  readonly ranks?: Readonly<Record<number, readonly number[]>>;
  /** Elements of the result, as a function of constant inputs. NaN: unknown. */
  readonly elements?: (ints: IntsAt) => number;
  /** Input with the element type of the result. Default: 8 bytes an element. */
  readonly typeFrom?: number;
  /** Whether the result must have as many elements as that input; if it does, its bytes are not counted. Default false. */
  readonly keepsCount?: boolean;
  /** Inputs with the size of the result. */
  readonly sizes?: readonly number[];
  /** Iterations, as a function of constant inputs. NaN: unknown. */
  readonly iterations?: (ints: IntsAt) => number;
}

/** Integers of a constant input; undefined: unknown. */
type IntsAt = (slot: number) => readonly number[] | undefined;

/** More heads than any model has; products of sizes remain below 2^32. */
const MAX_HEADS = 2 ** 16;

/** More weights than any format has per scale. */
const MAX_BLOCK = 2 ** 16;

/** More iterations than the constants of a valid model cause. */
const MAX_ITERATIONS = 2 ** 26;

/**
 * Most bytes that a model may compute from constants, such as masks, in addition to an eighth of the size of its weights.
 * ONNX Runtime needs five times as much while it folds them.
 */
const MAX_BYTES = 2 ** 25;

const product = (sizes: readonly number[] | undefined): number => sizes?.reduce((all, size) => all * size, 1) ?? NaN;

/**
 * Operators on which ONNX Runtime 1.30 crashes (division by zero, access out of bounds, failed allocation) instead of
 * refusing the model. Found with mutated models: `npm run torture`.
 */
const UNCHECKED: Readonly<Record<string, Unchecked>> = {
  'com.microsoft.GroupQueryAttention': {
    counts: { num_heads: MAX_HEADS, kv_num_heads: MAX_HEADS },
    ranks: { 7: [2], 8: [2] },
  },
  'com.microsoft.MultiHeadAttention': { counts: { num_heads: MAX_HEADS } },
  'com.microsoft.Attention': { counts: { num_heads: MAX_HEADS }, parts: { qkv_hidden_sizes: 1 } },
  Attention: { counts: { q_num_heads: MAX_HEADS, kv_num_heads: MAX_HEADS } },
  'com.microsoft.GatherBlockQuantized': { counts: { bits: 8, block_size: MAX_BLOCK } },
  'com.microsoft.EmbedLayerNormalization': { ranks: { 0: [2], 1: [2], 2: [2], 3: [2], 4: [2], 5: [1], 6: [1] } },
  // With 3 dims the kernel reads past the end of its weight's dims.
  'com.microsoft.CausalConvWithState': { counts: { ndim: 2 } },
  'com.microsoft.RotaryEmbedding': { ranks: { 2: [2], 3: [2] } },
  RotaryEmbedding: { ranks: { 1: [2, 3], 2: [2, 3] } },
  ConstantOfShape: { elements: (ints) => product(ints(0)), sizes: [0] },
  Expand: { elements: (ints) => product(ints(1)), typeFrom: 0, sizes: [1] },
  Tile: { elements: (ints) => product(ints(1)), typeFrom: 0, sizes: [1] },
  OneHot: { elements: (ints) => product(ints(1)), typeFrom: 2 },
  Pad: { elements: (ints) => ints(1)?.reduce((most, pad) => Math.max(most, pad), 0) ?? NaN, typeFrom: 0 },
  // An unknown end is a length, at least 0.
  Range: {
    elements: (ints) => (product(ints(1) ?? [0]) - product(ints(0))) / product(ints(2)),
    typeFrom: 0,
    sizes: [0, 1, 2],
  },
  // ONNX Runtime's shape inference allocates one entry per element of what may be a shape, by the claimed size.
  Reshape: { elements: (ints) => (ints(1)?.length === 1 ? product(ints(1)) : NaN), typeFrom: 0, keepsCount: true },
  Loop: { iterations: (ints) => product(ints(0)) },
};

/** Operators that compute sizes from other sizes. */
const SIZE_ARITHMETIC: ReadonlySet<string> = new Set([
  ...['Add', 'Sub', 'Mul', 'Div', 'Neg', 'Abs', 'Max', 'Min', 'Where', 'Concat'],
  ...['Cast', 'Identity', 'Reshape', 'Squeeze', 'Unsqueeze'],
]);

/** Limit of a constant size: more than the tokens of any context, and that many rows can be allocated. */
const MAX_SIZE = 2 ** 24;

/**
 * Refuses models on which ONNX Runtime is known to crash, before a session is created.
 * @throws UnsupportedModelError naming the node and the invalid number.
 */
export async function refuseCrashing({ proto, weights }: Pick<OnnxModel, 'proto' | 'weights'>): Promise<void> {
  const open = proto.graph === undefined ? [] : [proto.graph];
  const weightBytes = [...weights.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const mostBytes = Math.floor(MAX_BYTES + weightBytes / 8);
  let totalBytes = 0;
  const allocate = (bytes: number, what: string) => {
    if (bytes > 0) totalBytes += bytes;
    if (totalBytes <= mostBytes) return;
    const [found, expected] = [`computes ${bytes} bytes from constants`, `expected up to ${mostBytes}`];
    throw refuse(`${what} ${found} (${totalBytes} together with earlier nodes), ${expected}`);
  };
  for (let graph = open.pop(); graph !== undefined; graph = open.pop()) {
    const facts = await knownFacts(graph, weights);
    const producers = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
    for (const node of graph.node) {
      open.push(...subgraphsOf(node));
      const unchecked = Object.hasOwn(UNCHECKED, qualifiedOp(node)) ? UNCHECKED[qualifiedOp(node)]! : {};
      const invalid = findUnexpected(node) ?? findInvalidNumber(node, unchecked, facts);
      if (invalid !== undefined) throw refuse(`${nodeLabel(node)} ${invalid}`);
      allocate(resultBytes(node, unchecked, facts), nodeLabel(node));
      const tooLarge = findTooLargeSize(node, unchecked, { producers, facts });
      if (tooLarge !== undefined) throw refuse(`${nodeLabel(node)} ${tooLarge}`);
    }
    for (const { values, dims } of graph.sparseInitializer)
      allocate(product(dims.map(Number)) * elementBytes(values?.dataType), `the sparse tensor "${values?.name}"`);
  }
}

const refuse = (what: string): UnsupportedModelError =>
  new UnsupportedModelError(`${what}; ONNX Runtime may crash on it. Get the model again, or export it again`);

function findUnexpected(node: NodeProto): string | undefined {
  if (NON_DECODER_OPS.has(qualifiedOp(node)))
    return 'is an operator for images, audio or random numbers, which no decoder has';
  for (const { name, i, ints } of node.attribute) {
    const limit = ATTRIBUTE_LIMITS.get(name);
    const most = limit ?? 2 ** 31;
    const invalid = [i, ...(limit === undefined ? [] : ints)].find((int) => int < -most || int > most);
    if (invalid !== undefined) return `has ${name} ${invalid}, which no valid model has`;
  }
  return undefined;
}

type Facts = ReadonlyMap<string, ValueFact>;

function findInvalidNumber(
  node: NodeProto,
  { counts = {}, parts = {}, ranks = {}, iterations }: Unchecked,
  facts: Facts,
): string | undefined {
  const factAt = (slot: number | string) => facts.get(node.input[Number(slot)] ?? '');
  for (const [name, most] of Object.entries(counts)) {
    const count = findAttribute(node, name)?.i;
    if (count !== undefined && !(count >= 1n && count <= most)) return `has ${name} ${count}, expected 1 to ${most}`;
  }
  for (const [slot, expected] of Object.entries(ranks)) {
    const { dims } = factAt(slot) ?? {};
    if (dims !== undefined && !expected.includes(dims.length))
      return `reads "${node.input[Number(slot)]}" of dims [${dims}], expected ${expected.join(' or ')} dims`;
  }
  for (const [name, slot] of Object.entries(parts)) {
    const [sizes, dims] = [intsAttribute(node, name), factAt(slot)?.dims];
    const isComplete = sizes?.every((size) => size > 0) && sum(sizes) === dims?.at(-1);
    if (sizes !== undefined && dims !== undefined && !isComplete)
      return `divides "${node.input[slot]}" of dims [${dims}] by ${name} [${sizes}], expected parts of its last dim`;
  }
  const count = iterations?.((slot) => factAt(slot)?.ints) ?? 0;
  return count > MAX_ITERATIONS ? `has ${count} iterations, expected up to ${MAX_ITERATIONS}` : undefined;
}

/** Finds a constant that makes a result larger than any model needs. */
function findTooLargeSize(
  node: NodeProto,
  { sizes = [] }: Unchecked,
  { producers, facts }: { readonly producers: ReadonlyMap<string, NodeProto>; readonly facts: Facts },
): string | undefined {
  const open = sizes.map((slot) => node.input[slot] ?? '');
  const seen = new Set(open);
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    const tooLarge = facts.get(value)?.ints?.find((int) => Math.abs(int) >= MAX_SIZE);
    if (tooLarge !== undefined)
      return `has a size computed from "${value}", which contains ${tooLarge}; expected less than ${MAX_SIZE}`;
    const producer = producers.get(value);
    if (producer === undefined || !SIZE_ARITHMETIC.has(qualifiedOp(producer))) continue;
    for (const input of producer.input) {
      if (seen.has(input)) continue;
      seen.add(input);
      open.push(input);
    }
  }
  return undefined;
}

/** NaN: unknown. */
function resultBytes(node: NodeProto, { elements, typeFrom, keepsCount = false }: Unchecked, facts: Facts): number {
  const factAt = (slot: number) => facts.get(node.input[slot] ?? '');
  const count = elements?.((slot) => factAt(slot)?.ints) ?? 0;
  if (keepsCount && count === product(factAt(typeFrom!)?.dims)) return 0;
  return count * elementBytes(typeFrom === undefined ? undefined : factAt(typeFrom)?.dataType);
}

/** 8 for an unknown type. */
const elementBytes = (dataType = 0): number => (findDataType(dataType)?.bits ?? 64) / 8;

/** Facts about weights and Constant nodes. */
async function knownFacts({ initializer, node }: GraphProto, weights: OnnxModel['weights']): Promise<Facts> {
  const facts = new Map<string, ValueFact>();
  for (const { name } of initializer) {
    const handle = weights.get(name);
    if (handle !== undefined) facts.set(name, await factOfWeight(handle));
  }
  for (const constant of node.filter(({ opType }) => opType === 'Constant')) {
    const tensor = findAttribute(constant, 'value')?.t;
    const single = findAttribute(constant, 'value_int');
    const ints = intsAttribute(constant, 'value_ints') ?? (single && [Number(single.i)]);
    const fact =
      ints === undefined ? tensor && (await factOfTensor(tensor)) : { dims: [ints.length], dataType: INT64, ints };
    if (fact !== undefined) facts.set(constant.output[0] ?? '', fact);
  }
  return facts;
}

async function factOfTensor(tensor: TensorProto): Promise<ValueFact> {
  const shape = { dataType: tensor.dataType, dims: tensor.dims.map(Number) };
  const type = findDataType(tensor.dataType);
  const isStored = type !== undefined && tensor.rawData.length === 0;
  return factOfWeight(bytesHandle(shape, isStored ? typedElementBytes(tensor, type) : tensor.rawData));
}
