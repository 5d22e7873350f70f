import type { GraphProto, NodeProto, TensorProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { findAttribute, intsAttribute } from '../graph/attributes.js';
import { nodeLabel, qualifiedOp, subgraphsOf } from '../graph/graph-index.js';
import type { ValueFact } from '../graph/value-facts.js';
import { findDataType } from '../onnx/data-types.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { bytesHandle } from '../onnx/tensor-handle.js';
import { typedElementBytes } from '../onnx/typed-elements.js';
import { factOfWeight } from './probe-values.js';

/** Attributes that name dims: kernels take a number that is far off for a place in memory. */
const AXES = ['axis', 'batch_dims', 'batch_axis', 'seq_axis', 'time_axis'] as const;

/** More dims than any tensor has. */
const MOST_DIMS = 64;

/** What an operator's kernel takes on trust. */
interface Trusted {
  /** Attributes that it divides by: at least 1 where the node has them. */
  readonly counts?: readonly string[];
  /** Inputs whose dims it reads without looking how many there are, with the numbers that it can do with. */
  readonly ranks?: Readonly<Record<number, readonly number[]>>;
  /** Elements that it makes, or rounds that it takes, of the integers that its inputs hold; NaN where they are not known. */
  readonly size?: (ints: (slot: number) => readonly number[] | undefined, node: NodeProto) => number;
}

/** More heads than any model has, and few enough that no product of sizes leaves 32 bits. */
const MOST_HEADS = 2 ** 16;

/** The largest value that is no weight and that a model has reason to make out of constants: a mask of 8192 by 8192. */
const MOST_ELEMENTS = 2 ** 26;

const product = (sizes: readonly number[] | undefined): number => sizes?.reduce((all, size) => all * size, 1) ?? NaN;

/**
 * Operators on which ONNX Runtime ends the process (a division by zero, an access out of bounds, memory that is not there)
 * instead of refusing the model. Found by mutants, with 1.30: `npm run torture`.
 */
const TRUSTED: Readonly<Record<string, Trusted>> = {
  'com.microsoft.GroupQueryAttention': { counts: ['num_heads', 'kv_num_heads'], ranks: { 7: [2], 8: [2] } },
  'com.microsoft.MultiHeadAttention': { counts: ['num_heads'] },
  'com.microsoft.Attention': { counts: ['num_heads'] },
  Attention: { counts: ['q_num_heads', 'kv_num_heads'] },
  'com.microsoft.RotaryEmbedding': { ranks: { 2: [2], 3: [2] } },
  RotaryEmbedding: { ranks: { 1: [2, 3], 2: [2, 3] } },
  ConstantOfShape: { size: (ints) => product(ints(0)) },
  Expand: { size: (ints) => product(ints(1)) },
  Tile: { size: (ints) => product(ints(1)) },
  OneHot: { size: (ints) => product(ints(1)) },
  Pad: { size: (ints) => ints(1)?.reduce((most, pad) => Math.max(most, pad), 0) ?? NaN },
  Range: { size: (ints) => (product(ints(1)) - product(ints(0))) / product(ints(2)) },
  RandomNormal: { size: (_, node) => product(intsAttribute(node, 'shape')) },
  RandomUniform: { size: (_, node) => product(intsAttribute(node, 'shape')) },
  Loop: { size: (ints) => product(ints(0)) },
};

/**
 * Refuses what is known to end the process in ONNX Runtime, before a session is made.
 * @throws UnsupportedModelError naming the node and what is wrong with it.
 */
export async function refuseCrashing({ proto, weights }: Pick<OnnxModel, 'proto' | 'weights'>): Promise<void> {
  const open = proto.graph === undefined ? [] : [proto.graph];
  for (let graph = open.pop(); graph !== undefined; graph = open.pop()) {
    const facts = await knownFacts(graph, weights);
    for (const node of graph.node) {
      open.push(...subgraphsOf(node));
      const trusted = Object.hasOwn(TRUSTED, qualifiedOp(node)) ? TRUSTED[qualifiedOp(node)] : undefined;
      const wrong = findStray(node) ?? (trusted && findWrong(node, trusted, facts));
      if (wrong !== undefined) throw refuse(`${nodeLabel(node)} ${wrong}`);
    }
    const sparse = graph.sparseInitializer.find(({ dims }) => !(product(dims.map(Number)) <= MOST_ELEMENTS));
    if (sparse !== undefined) throw refuse(`the sparse tensor "${sparse.values?.name}" has dims [${sparse.dims}]`);
  }
}

const refuse = (what: string): UnsupportedModelError =>
  new UnsupportedModelError(`${what}; ONNX Runtime may end the process there. Get the model again, or export it anew`);

function findStray({ attribute }: NodeProto): string | undefined {
  const stray = attribute.find(({ name, i }) => {
    const limit = (AXES as readonly string[]).includes(name) ? MOST_DIMS : 2 ** 31;
    return i < -limit || i > limit;
  });
  return stray && `has ${stray.name} ${stray.i}, which no sound model has`;
}

type Facts = ReadonlyMap<string, ValueFact>;

function findWrong(node: NodeProto, { counts = [], ranks = {}, size }: Trusted, facts: Facts): string | undefined {
  const factAt = (slot: number | string) => facts.get(node.input[Number(slot)] ?? '');
  for (const name of counts) {
    const count = findAttribute(node, name)?.i;
    if (count !== undefined && !(count >= 1n && count <= MOST_HEADS))
      return `has ${name} ${count}, expected 1 to ${MOST_HEADS}`;
  }
  for (const [slot, expected] of Object.entries(ranks)) {
    const { dims } = factAt(slot) ?? {};
    if (dims !== undefined && !expected.includes(dims.length))
      return `reads "${node.input[Number(slot)]}" of dims [${dims}], expected ${expected.join(' or ')} dims`;
  }
  const made = size?.((slot) => factAt(slot)?.ints, node) ?? 0;
  return made > MOST_ELEMENTS
    ? `makes ${made} elements or rounds out of constants, expected up to ${MOST_ELEMENTS}`
    : undefined;
}

/** What is known of weights and of Constant nodes. */
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
