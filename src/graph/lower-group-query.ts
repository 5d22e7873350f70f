import { create } from '@bufbuild/protobuf';
import { type GraphProto, type NodeProto, NodeProtoSchema } from 'onnx-buf';
import { floatAttribute, intAttribute } from './attributes.js';
import { type AttributeValue, makeNode } from './build.js';
import { impliedHeadSize, tableWidth } from './head-size.js';

/**
 * Gives a GroupQueryAttention that ONNX Runtime's CPU kernel refuses a form that it runs, so that models built for other
 * devices can be run and differentiated while they are pruned; `undefined` where the operator runs as it is. Where the
 * kernel refuses its head size, or norms of packed heads, all of it is written out in primitives. Norms of heads apart are
 * put before the operator. A cache that slides is empty without past, and the window alone says what is seen.
 * Every value keeps its name. Padding is not looked at: windows are full.
 */
export function lowerGroupQuery(node: NodeProto, graph: GraphProto): NodeProto[] | undefined {
  const size = declaredHeadSize(node, graph) ?? impliedHeadSize(node, graph);
  const isFit = size === undefined || isRunnable(node, size, tableWidth(node.input[7], graph) ?? 0);
  const hasNorms = node.input.slice(14).some((weight) => weight !== '');
  if (!isFit || (hasNorms && (node.input[1] ?? '') === '')) return writeOutGroupQuery(node, graph);
  const slides = intAttribute(node, 'sliding_window_cache', 0) === 1;
  return hasNorms || slides ? simplify(node) : undefined;
}

/** The operator without what only other devices have a kernel for. */
function simplify(node: NodeProto): NodeProto[] {
  const [query = '', key = ''] = node.input;
  const [result = ''] = node.output;
  const nodes: NodeProto[] = [];
  const emit: Emit = (op, inputs, attributes = {}) => {
    const output = `${result}/lowered/${op}_${nodes.length}`;
    nodes.push(makeNode({ op, name: output, inputs, outputs: [output], attributes }));
    return output;
  };
  const shape = (...values: readonly number[]): string => emit('Constant', [], { value_ints: values });
  const normHeads = (x: string, count: number, weight = ''): string =>
    weight === ''
      ? x
      : emit('Reshape', [norm(node, emit, emit('Reshape', [x, shape(0, 0, count, -1)]), weight), shape(0, 0, -1)]);
  const inputs = [
    normHeads(query, intAttribute(node, 'num_heads', 1), node.input[14]),
    normHeads(key, intAttribute(node, 'kv_num_heads', 1), node.input[15]),
    ...node.input.slice(2, 14),
  ];
  const attribute = node.attribute.filter(({ name }) => name !== 'sliding_window_cache' && name !== 'qk_norm_epsilon');
  return [...nodes, create(NodeProtoSchema, { ...node, input: inputs, attribute })];
}

/** What ONNX Runtime's CPU kernel asks of a head size, and of the angles that it rotates by: multiples of SIMD lanes. */
function isRunnable(node: NodeProto, headSize: number, angleCount: number): boolean {
  return intAttribute(node, 'do_rotary', 0) === 1 ? headSize % 16 === 0 && angleCount % 8 === 0 : headSize % 8 === 0;
}

/** Head size as the cache declares it. */
function declaredHeadSize(node: NodeProto, graph: GraphProto): number | undefined {
  const cache = graph.input.find(({ name }) => name !== '' && name === node.input[3]);
  const shape = cache?.type?.value.case === 'tensorType' ? cache.type.value.value.shape : undefined;
  const declared = shape?.dim.at(-1)?.value;
  return declared?.case === 'dimValue' ? Number(declared.value) : undefined;
}

const FLOAT32 = 1;
/** Lowest finite float32: what a masked score becomes. */
const LOWEST = -3.4028234663852886e38;

type Emit = (op: string, inputs: readonly string[], attributes?: Readonly<Record<string, AttributeValue>>) => string;

/**
 * B = batch, S = tokens, P = tokens in the cache, L = P + S, H = heads, K = KV heads, D = head size. Reshape entries of 0
 * copy a size, so no size needs to be known. Scores are float32 whatever the model's precision, as in the fused kernel.
 */
export function writeOutGroupQuery(node: NodeProto, graph: GraphProto): NodeProto[] {
  const nodes: NodeProto[] = [];
  const [result = '', presentKey = '', presentValue = ''] = node.output;
  let count = 0;
  const emitAs = (output: string, op: string, inputs: readonly string[], attributes = {}): string => {
    const domain = op === 'RotaryEmbedding' ? 'com.microsoft' : '';
    nodes.push(makeNode({ op, domain, name: output, inputs, outputs: [output], attributes }));
    return output;
  };
  const emit: Emit = (op, inputs, attributes) =>
    emitAs(`${result}/lowered/${op}_${count++}`, op, inputs, attributes ?? {});
  const ints = (...values: readonly number[]): string => emit('Constant', [], { value_ints: values });
  const float = (value: number): string => emit('Constant', [], { value_float: { float: value } });
  const reshape = (x: string, ...shape: readonly number[]): string => emit('Reshape', [x, ints(...shape)]);
  const sizeOf = (x: string, axis: number): string => emit('Gather', [emit('Shape', [x]), ints(axis)], { axis: 0 });
  const scalar = (x: string): string => emit('Squeeze', [x]);

  const { query, key, value, heads, kvHeads } = splitHeads(node, { emit, ints, reshape });
  const pastKey = node.input[3] ?? '';
  const offset = pastKey === '' ? ints(0) : sizeOf(pastKey, 2);
  const prepare = (x: string, count: number, weight: string | undefined): string =>
    rotate(node, { emit, offset, count, angleCount: tableWidth(node.input[7], graph) }, norm(node, emit, x, weight));
  const [q, k] = [prepare(query, heads, node.input[14]), prepare(key, kvHeads, node.input[15])];
  const keys = joinPast(emitAs, presentKey || `${result}/lowered/keys`, pastKey, k);
  const values = joinPast(emitAs, presentValue || `${result}/lowered/values`, node.input[4] ?? '', value);

  const type = elementType(node, graph);
  const toFloat = (x: string): string => (type === FLOAT32 ? x : emit('Cast', [x], { to: FLOAT32 }));
  // Heads of one KV head are stacked below each other, so that keys and values need no copies.
  const stacked = reshape(toFloat(q), 0, kvHeads, -1, 0);
  const size = emit('Cast', [sizeOf(q, 3)], { to: FLOAT32 });
  const given = floatAttribute(node, 'scale', 0);
  const scale = given === 0 ? emit('Reciprocal', [emit('Sqrt', [size])]) : float(given);
  const products = emit('MatMul', [stacked, emit('Transpose', [toFloat(keys)], { perm: [0, 1, 3, 2] })]);
  const softcap = floatAttribute(node, 'softcap', 0);
  const scaled = emit('Mul', [products, scale]);
  const capped =
    softcap > 0 ? emit('Mul', [emit('Tanh', [emit('Div', [scaled, float(softcap)])]), float(softcap)]) : scaled;
  let scores = reshape(capped, 0, heads, -1, 0);
  const free = scores;
  const [rowCount, columnCount] = [scalar(sizeOf(q, 2)), scalar(sizeOf(keys, 2))];
  const [zero, one] = [scalar(ints(0)), scalar(ints(1))];
  const columns = emit('Range', [zero, columnCount, one]);
  const rows = reshape(emit('Range', [emit('Sub', [columnCount, rowCount]), columnCount, one]), -1, 1);
  const hide = (forbidden: string): void => {
    scores = emit('Where', [forbidden, float(LOWEST), scores]);
  };
  const bias = node.input[10] ?? '';
  if (bias !== '') scores = emit('Add', [scores, toFloat(bias)]);
  const window = intAttribute(node, 'local_window_size', -1);
  if (window > 0) hide(emit('Less', [columns, emit('Sub', [rows, ints(window - 1)])]));
  if (intAttribute(node, 'causal', 1) === 1) hide(emit('Less', [rows, columns]));
  const probabilities = softmax(node, { emit, ints, float, reshape, toFloat, free, heads }, scores);
  const mixed = emit('MatMul', [reshape(probabilities, 0, kvHeads, -1, 0), toFloat(values)]);
  const merged = emit('Transpose', [reshape(mixed, 0, heads, -1, 0)], { perm: [0, 2, 1, 3] });
  const joined = type === FLOAT32 ? merged : emit('Cast', [merged], { to: type });
  emitAs(result, 'Reshape', [joined, ints(0, 0, -1)]);
  return nodes;
}

interface HeadTools {
  readonly emit: Emit;
  readonly ints: (...values: readonly number[]) => string;
  readonly reshape: (x: string, ...shape: readonly number[]) => string;
}

/** Query `[B, H, S, D]`, key and value `[B, K, S, D]`, out of three inputs or one packed `[q | k | v]`. */
function splitHeads(node: NodeProto, { emit, ints, reshape }: HeadTools) {
  const [heads, kvHeads] = [intAttribute(node, 'num_heads', 1), intAttribute(node, 'kv_num_heads', 1)];
  const toHeads = (x: string, count: number): string =>
    emit('Transpose', [reshape(x, 0, 0, count, -1)], { perm: [0, 2, 1, 3] });
  const [packed = '', key = '', value = ''] = node.input;
  if (key !== '') {
    return {
      query: toHeads(packed, heads),
      key: toHeads(key, kvHeads),
      value: toHeads(value, kvHeads),
      heads,
      kvHeads,
    };
  }
  const all = toHeads(packed, heads + 2 * kvHeads);
  const take = (start: number, end: number): string => emit('Slice', [all, ints(start), ints(end), ints(1)]);
  return {
    query: take(0, heads),
    key: take(heads, heads + kvHeads),
    value: take(heads + kvHeads, heads + 2 * kvHeads),
    heads,
    kvHeads,
  };
}

function norm(node: NodeProto, emit: Emit, x: string, weight = ''): string {
  const epsilon = { float: floatAttribute(node, 'qk_norm_epsilon', 1e-6) };
  return weight === '' ? x : emit('SimplifiedLayerNormalization', [x, weight], { axis: -1, epsilon });
}

interface Rotation {
  readonly emit: Emit;
  /** Position of the first token. */
  readonly offset: string;
  readonly count: number;
  /** Columns of the cosine table. */
  readonly angleCount: number | undefined;
}

function rotate(node: NodeProto, { emit, offset, count, angleCount }: Rotation, x: string): string {
  if (intAttribute(node, 'do_rotary', 0) === 0) return x;
  const [cosTable = '', sinTable = '', positions = ''] = node.input.slice(7, 10);
  return emit('RotaryEmbedding', [x, positions === '' ? offset : positions, cosTable, sinTable], {
    interleaved: intAttribute(node, 'rotary_interleaved', 0),
    ...(angleCount !== undefined && { num_heads: count, rotary_embedding_dim: 2 * angleCount }),
  });
}

function joinPast(
  emitAs: (output: string, op: string, inputs: readonly string[], attributes?: object) => string,
  output: string,
  past: string,
  added: string,
): string {
  return past === '' ? emitAs(output, 'Identity', [added]) : emitAs(output, 'Concat', [past, added], { axis: 2 });
}

interface SoftmaxTools extends HeadTools {
  readonly float: (value: number) => string;
  readonly toFloat: (x: string) => string;
  /** Scores before any mask. */
  readonly free: string;
  readonly heads: number;
}

/** A head may have a sink: a score that takes part in the softmax and attends to nothing; "smooth" softmax has one of 0. */
function softmax(node: NodeProto, tools: SoftmaxTools, scores: string): string {
  const { emit, ints, float, reshape, toFloat, free, heads } = tools;
  const given = node.input[11] ?? '';
  if (given === '' && intAttribute(node, 'smooth_softmax', 0) !== 1) return emit('Softmax', [scores], { axis: -1 });
  const first = emit('Slice', [free, ints(0), ints(1), ints(3)]);
  const sink = given === '' ? float(0) : reshape(toFloat(given), 1, heads, 1, 1);
  const column = emit('Add', [emit('Sub', [first, first]), sink]);
  const probabilities = emit('Softmax', [emit('Concat', [scores, column], { axis: 3 })], { axis: -1 });
  return emit('Slice', [probabilities, ints(0), ints(-1), ints(3)]);
}

/** Element type of the operands, as the cache or the cosine table declares it. */
function elementType(node: NodeProto, { input, initializer }: GraphProto): number {
  const cache = input.find(({ name }) => name === node.input[3])?.type?.value;
  if (cache?.case === 'tensorType') return cache.value.elemType;
  return initializer.find(({ name }) => name === node.input[7])?.dataType ?? FLOAT32;
}
