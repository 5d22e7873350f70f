import type { GraphProto, NodeProto, TensorProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { findAttribute, intsAttribute } from '../onnx/attributes.js';
import { findDataType } from '../onnx/data-types.js';
import { nodeLabel, qualifiedOp, subgraphsOf } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { bytesHandle } from '../onnx/tensor-handle.js';
import { typedElementBytes } from '../onnx/typed-elements.js';
import type { ValueFact } from '../onnx/value-facts.js';
import { factOfWeight } from './probe-values.js';

/** More dims than any tensor has. */
const MAX_DIMS = 64;

/** Wider than any kernel that goes along a sequence, and small enough for two axes of them. */
const MAX_EXTENT = 2 ** 10;

const namesTo = (limit: number, names: readonly string[]) => names.map((name) => [name, limit] as const);

/**
 * Attributes by how large they may be, whatever the operator. They name dims, which kernels take for a place in memory, or say
 * how far a kernel reaches and how many outputs there are, which is made.
 */
const LIMITS: ReadonlyMap<string, number> = new Map([
  ...namesTo(MAX_DIMS, ['axis', 'batch_dims', 'batch_axis', 'seq_axis', 'time_axis']),
  ...namesTo(MAX_EXTENT, ['pads', 'strides', 'dilations', 'kernel_shape', 'output_padding', 'output_shape']),
  ...namesTo(MAX_EXTENT, ['num_outputs']),
]);

/**
 * Operators of images, signals and chance, which no decoder has. Their kernels take sizes, scales and ranges on
 * trust: they end the process, never end, or take all memory.
 */
const FOREIGN: ReadonlySet<string> = new Set([
  ...['Resize', 'Upsample', 'GridSample', 'AffineGrid', 'RoiAlign', 'MaxRoiPool', 'MaxUnpool', 'LRN', 'Col2Im'],
  ...['CenterCropPad', 'DeformConv', 'ImageScaler', 'NonMaxSuppression', 'com.microsoft.CropAndResize'],
  ...['DFT', 'STFT', 'MelWeightMatrix', 'HannWindow', 'HammingWindow', 'BlackmanWindow'],
  ...['RandomNormal', 'RandomNormalLike', 'RandomUniform', 'RandomUniformLike', 'Multinomial', 'Bernoulli'],
]);

/** Properties that an operator's kernel does not check. */
interface Trusted {
  /** Attributes that it divides or counts dims by: from 1 to so many, where the node has them. */
  readonly counts?: Readonly<Record<string, number>>;
  /** Attributes that divide the last dim of an input into parts, by that input. */
  readonly parts?: Readonly<Record<string, number>>;
  /** Inputs whose dims it reads without looking how many there are, with the numbers that it can do with. */
  readonly ranks?: Readonly<Record<number, readonly number[]>>;
  /** Elements that it makes of the integers that its inputs hold; NaN where they are not known. */
  readonly elements?: (ints: IntsAt) => number;
  /** Input whose type is that of the elements; default: eight bytes are counted. */
  readonly typeFrom?: number;
  /** It has as many elements as that input, so that nothing is claimed where its size is known. Default false. */
  readonly keepsCount?: boolean;
  /** Inputs that say how large its result is. */
  readonly sizes?: readonly number[];
  /** Rounds that it takes, likewise. */
  readonly rounds?: (ints: IntsAt) => number;
}

type IntsAt = (slot: number) => readonly number[] | undefined;

/** More heads than any model has, and few enough that no product of sizes leaves 32 bits. */
const MAX_HEADS = 2 ** 16;

/** More weights than ever share a scale. */
const MAX_BLOCK = 2 ** 16;

/** More rounds than a model's constants can have reason to ask for. */
const MAX_ROUNDS = 2 ** 26;

/**
 * Bytes that a small model may compute from constants, such as masks; a larger one may compute an eighth of its weights more.
 * ONNX Runtime holds such a value five times over while it folds it.
 */
const MAX_BYTES = 2 ** 25;

const product = (sizes: readonly number[] | undefined): number => sizes?.reduce((all, size) => all * size, 1) ?? NaN;

/**
 * Operators on which ONNX Runtime ends the process (a division by zero, an access out of bounds, memory that is not there)
 * instead of refusing the model. Found by mutants, with 1.30: `npm run torture`.
 */
const TRUSTED: Readonly<Record<string, Trusted>> = {
  'com.microsoft.GroupQueryAttention': {
    counts: { num_heads: MAX_HEADS, kv_num_heads: MAX_HEADS },
    ranks: { 7: [2], 8: [2] },
  },
  'com.microsoft.MultiHeadAttention': { counts: { num_heads: MAX_HEADS } },
  'com.microsoft.Attention': { counts: { num_heads: MAX_HEADS }, parts: { qkv_hidden_sizes: 1 } },
  Attention: { counts: { q_num_heads: MAX_HEADS, kv_num_heads: MAX_HEADS } },
  'com.microsoft.GatherBlockQuantized': { counts: { bits: 8, block_size: MAX_BLOCK } },
  'com.microsoft.EmbedLayerNormalization': { ranks: { 0: [2], 1: [2], 2: [2], 3: [2], 4: [2], 5: [1], 6: [1] } },
  // Of a sequence; three dims or more are read past the end of its weight's.
  'com.microsoft.CausalConvWithState': { counts: { ndim: 2 } },
  'com.microsoft.RotaryEmbedding': { ranks: { 2: [2], 3: [2] } },
  RotaryEmbedding: { ranks: { 1: [2, 3], 2: [2, 3] } },
  ConstantOfShape: { elements: (ints) => product(ints(0)), sizes: [0] },
  Expand: { elements: (ints) => product(ints(1)), typeFrom: 0, sizes: [1] },
  Tile: { elements: (ints) => product(ints(1)), typeFrom: 0, sizes: [1] },
  OneHot: { elements: (ints) => product(ints(1)), typeFrom: 2 },
  Pad: { elements: (ints) => ints(1)?.reduce((most, pad) => Math.max(most, pad), 0) ?? NaN, typeFrom: 0 },
  // Where the end is not known it is a length, at least 0.
  Range: {
    elements: (ints) => (product(ints(1) ?? [0]) - product(ints(0))) / product(ints(2)),
    typeFrom: 0,
    sizes: [0, 1, 2],
  },
  // It makes none, but ONNX Runtime notes each number of what may be a shape, and does so for as many as are claimed.
  Reshape: { elements: (ints) => (ints(1)?.length === 1 ? product(ints(1)) : NaN), typeFrom: 0, keepsCount: true },
  Loop: { rounds: (ints) => product(ints(0)) },
};

/** Operators that compute sizes from other sizes. */
const SIZE_ARITHMETIC: ReadonlySet<string> = new Set([
  ...['Add', 'Sub', 'Mul', 'Div', 'Neg', 'Abs', 'Max', 'Min', 'Where', 'Concat'],
  ...['Cast', 'Identity', 'Reshape', 'Squeeze', 'Unsqueeze'],
]);

/** More than any context has tokens, and few enough that a result of so many rows can be made. */
const MAX_SIZE = 2 ** 24;

/**
 * Refuses what is known to end the process in ONNX Runtime, before a session is made.
 * @throws UnsupportedModelError naming the node and what is wrong with it.
 */
export async function refuseCrashing({ proto, weights }: Pick<OnnxModel, 'proto' | 'weights'>): Promise<void> {
  const open = proto.graph === undefined ? [] : [proto.graph];
  const weightBytes = [...weights.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const mostBytes = Math.floor(MAX_BYTES + weightBytes / 8);
  let madeBytes = 0;
  const make = (bytes: number, what: string) => {
    if (bytes > 0) madeBytes += bytes;
    if (madeBytes <= mostBytes) return;
    const [found, expected] = [`makes ${bytes} bytes out of constants`, `expected up to ${mostBytes}`];
    throw refuse(`${what} ${found} (${madeBytes} with what is made before it), ${expected}`);
  };
  for (let graph = open.pop(); graph !== undefined; graph = open.pop()) {
    const facts = await knownFacts(graph, weights);
    const producers = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
    for (const node of graph.node) {
      open.push(...subgraphsOf(node));
      const trusted = Object.hasOwn(TRUSTED, qualifiedOp(node)) ? TRUSTED[qualifiedOp(node)]! : {};
      const wrong = findUnexpected(node) ?? findWrong(node, trusted, facts);
      if (wrong !== undefined) throw refuse(`${nodeLabel(node)} ${wrong}`);
      make(bytesMade(node, trusted, facts), nodeLabel(node));
      const vast = findTooLargeTensor(node, trusted, { producers, facts });
      if (vast !== undefined) throw refuse(`${nodeLabel(node)} ${vast}`);
    }
    for (const { values, dims } of graph.sparseInitializer)
      make(product(dims.map(Number)) * elementBytes(values?.dataType), `the sparse tensor "${values?.name}"`);
  }
}

const refuse = (what: string): UnsupportedModelError =>
  new UnsupportedModelError(`${what}; ONNX Runtime may end the process there. Get the model again, or export it again`);

function findUnexpected(node: NodeProto): string | undefined {
  if (FOREIGN.has(qualifiedOp(node))) return 'is an operator of images, signals or chance, which no decoder has';
  for (const { name, i, ints } of node.attribute) {
    const limit = LIMITS.get(name);
    const most = limit ?? 2 ** 31;
    const invalid = [i, ...(limit === undefined ? [] : ints)].find((int) => int < -most || int > most);
    if (invalid !== undefined) return `has ${name} ${invalid}, which no valid model has`;
  }
  return undefined;
}

type Facts = ReadonlyMap<string, ValueFact>;

function findWrong(
  node: NodeProto,
  { counts = {}, parts = {}, ranks = {}, rounds }: Trusted,
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
    const isComplete = sizes?.every((size) => size > 0) && sizes.reduce((sum, size) => sum + size, 0) === dims?.at(-1);
    if (sizes !== undefined && dims !== undefined && !isComplete)
      return `divides "${node.input[slot]}" of dims [${dims}] by ${name} [${sizes}], expected parts of its last dim`;
  }
  const taken = rounds?.((slot) => factAt(slot)?.ints) ?? 0;
  return taken > MAX_ROUNDS ? `takes ${taken} rounds by a constant, expected up to ${MAX_ROUNDS}` : undefined;
}

/** A constant that a result's size is worked out from, and that no sound size comes from. */
function findTooLargeTensor(
  node: NodeProto,
  { sizes = [] }: Trusted,
  { producers, facts }: { readonly producers: ReadonlyMap<string, NodeProto>; readonly facts: Facts },
): string | undefined {
  const open = sizes.map((slot) => node.input[slot] ?? '');
  const seen = new Set(open);
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    const vast = facts.get(value)?.ints?.find((int) => Math.abs(int) >= MAX_SIZE);
    if (vast !== undefined)
      return `is made as large as "${value}" says, which has ${vast}; expected less than ${MAX_SIZE}`;
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

/** NaN where it is not known. */
function bytesMade(node: NodeProto, { elements, typeFrom, keepsCount = false }: Trusted, facts: Facts): number {
  const factAt = (slot: number) => facts.get(node.input[slot] ?? '');
  const count = elements?.((slot) => factAt(slot)?.ints) ?? 0;
  if (keepsCount && count === product(factAt(typeFrom!)?.dims)) return 0;
  return count * elementBytes(typeFrom === undefined ? undefined : factAt(typeFrom)?.dataType);
}

/** Eight where the type is not known. */
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
      ints === undefined ? tensor && (await factOfTensor(tensor)) : { dims: [ints.length], dataType: 7, ints };
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
