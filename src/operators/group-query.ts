import { create } from '@bufbuild/protobuf';
import { type GraphProto, type NodeProto, NodeProtoSchema } from 'onnx-buf';
import { floatAttribute, intAttribute, textAttribute } from '../onnx/attributes.js';
import { makeNode, type NodeSpec } from '../onnx/build.js';
import { FLOAT32, INT64 } from '../onnx/data-types.js';
import { impliedHeadSize, tableWidth } from '../onnx/head-size.js';
import { gradientType, type Value } from '../onnx/value.js';
import { OPEN } from '../onnx/value-facts.js';
import { attend, causalMask, mergeHeads, splitAxis, splitHeads, windowMask } from './attend.js';
import type { Finding, RuleSite } from './axis-rule.js';
import { type Lowering, type LoweringContext, refusePast, unsupported } from './gradient-rule.js';
import {
  channelsOf,
  fromOutput,
  groupHeads,
  isPresent,
  joinUnitIds,
  perCache,
  perChannel,
  perHead,
  updateHeadCounts,
} from './heads.js';
import { LOWERED, lowerNode } from './lower-node.js';
import { type Cache, type Family, PLAIN } from './operator.js';

const CACHE: Cache = { past: [3, 4], present: [1, 2], headAxis: 1 };

/** Labels of separate or packed query, key and value, of caches, bias and sinks. */
const groupQueryAxes = fromOutput((site, heads) => {
  const { input } = site.node;
  const { groups, sharing } = groupHeads(heads, intAttribute(site.node, 'kv_num_heads', heads.length));
  const operands = isPresent(input[1])
    ? [heads, groups, groups].flatMap((codes, slot) => perChannel(site, input[slot], codes))
    : [perPacked(site, heads, groups)];
  const findings = [
    ...operands,
    ...perCache(site, CACHE, groups),
    ...perHead(site, input[10], 1, heads),
    ...perHead(site, input[11], 0, heads),
  ];
  return { findings, ...sharing };
});

/** `[.., q | k | v]` in one input. */
function perPacked(site: RuleSite, heads: Int32Array, groups: Int32Array): Finding {
  const [value = ''] = site.node.input;
  const dims = site.dims(value);
  const axis = dims.length - 1;
  const headSize = (dims[axis] ?? 0) / (heads.length + 2 * groups.length);
  const width = (codes: Int32Array) => channelsOf(codes, codes.length * headSize);
  return { value, label: { axis, unitIds: joinUnitIds(width(heads), width(groups), width(groups)) } };
}

/**
 * Lowering for tokens without padding. Without a cache positions are 0..S-1. Scores are float32 also in half-precision
 * models, as in the fused kernel.
 *
 * Inputs: 0 query or packed `[q | k | v]`, 1 key, 2 value, 3 and 4 past, 7 and 8 cos and sin caches, 9 positions,
 * 10 attention bias, 11 head sinks, 14 and 15 RMS norm weights of query and key heads.
 */
const lowerGroupQuery: Lowering = (c) => {
  refuseCaches(c);
  const { o } = c;
  const toFloat = (x: Value): Value => o.cast(x, gradientType(x.dataType));
  const { query: original, key, value } = readHeads(c);
  const [keys, values] = [joinPast(c, 3, key), joinPast(c, 4, value)];
  const query = toFloat(original);
  const operands = { query, key: toFloat(keys), value: toFloat(values) };
  const [heads = 1, rows = 1] = query.dims.slice(1);
  const window = intAttribute(c.node, 'local_window_size', -1);
  const masks = [
    ...(intAttribute(c.node, 'causal', 1) === 1 ? [causalMask(o, operands)] : []),
    ...(window > 0 && (window < rows || rows === OPEN) ? [windowMask(o, operands, window)] : []),
  ];
  const mixed = attend(c, {
    ...operands,
    biases: [
      ...(masks.length > 0 ? [masks.reduce((sum, mask) => o.add(sum, mask))] : []),
      ...(c.has(10) ? [toFloat(c.input(10))] : []),
    ],
    sink: c.has(11) ? toFloat(c.input(11)) : readSmoothSink(c, heads),
  });
  return [o.cast(mergeHeads(o, mixed), original.dataType), keys, values];
};

function refuseCaches(c: LoweringContext): void {
  refusePast(c, CACHE.past);
  for (const name of ['k_quant_type', 'v_quant_type']) {
    const type = textAttribute(c.node, name);
    if (type !== '' && type !== 'NONE') throw unsupported(c.node, `its cache is quantised (${name} = ${type}).`);
  }
}

/** Past and new keys or values concatenated. */
function joinPast(c: LoweringContext, slot: number, added: Value): Value {
  if (!c.has(slot) || c.input(slot).dims.includes(0)) return added;
  return c.o.append(c.input(slot), added, 2);
}

/** Query `[B, H, S, D]`, key and value `[B, K, S, D]`: unpacked, normalised and rotated by the attributes. */
function readHeads(c: LoweringContext): { readonly query: Value; readonly key: Value; readonly value: Value } {
  const { o } = c;
  const heads = intAttribute(c.node, 'num_heads', 1);
  const kvHeads = intAttribute(c.node, 'kv_num_heads', 1);
  const parts = c.has(1)
    ? [splitHeads(o, c.input(0), heads), splitHeads(o, c.input(1), kvHeads), splitHeads(o, c.input(2), kvHeads)]
    : splitAxis(o, splitHeads(o, c.input(0), heads + 2 * kvHeads), { axis: 1, lengths: [heads, kvHeads, kvHeads] });
  const [query, key, value] = parts;
  if (query === undefined || key === undefined || value === undefined) throw unsupported(c.node, 'inputs are missing.');
  return { query: rotate(c, norm(c, query, 14)), key: rotate(c, norm(c, key, 15)), value };
}

function norm(c: LoweringContext, x: Value, weight: number): Value {
  if (!c.has(weight)) return x;
  const attributes = { axis: -1, epsilon: readEpsilon(c.node) };
  return c.o.emitter.node('SimplifiedLayerNormalization', [x, c.input(weight)], { ...x, attributes });
}

const readEpsilon = (node: NodeProto) => ({ float: floatAttribute(node, 'qk_norm_epsilon', 1e-6) });

function rotate(c: LoweringContext, x: Value): Value {
  if (intAttribute(c.node, 'do_rotary', 0) === 0) return x;
  const { o } = c;
  const [, heads = 1, , size = 1] = x.dims;
  const [, angles = 0] = c.input(7).dims;
  const isPart = angles !== OPEN && 2 * angles !== size;
  return o.emitter.node('RotaryEmbedding', [x, firstPosition(c), c.input(7), c.input(8)], {
    ...x,
    domain: 'com.microsoft',
    attributes: {
      interleaved: intAttribute(c.node, 'rotary_interleaved', 0),
      ...(isPart && { num_heads: heads, rotary_embedding_dim: 2 * angles }),
    },
  });
}

/** The given positions, or the first token's: the length of the cache. */
function firstPosition(c: LoweringContext): Value {
  if (c.has(9)) return c.input(9);
  const hasPast = c.has(3) && !c.input(3).dims.includes(0);
  return hasPast ? c.o.reshape(c.o.sizeOf(c.input(3), 2), [1]) : c.o.ints([0]);
}

/** A score of 0 for all heads when the softmax is "smooth". */
function readSmoothSink({ node, o }: LoweringContext, heads: number): Value | undefined {
  if (intAttribute(node, 'smooth_softmax', 0) !== 1) return undefined;
  return o.emitter.constant(FLOAT32, [heads], new Array<number>(heads).fill(0));
}

/**
 * Rewrites forms that ONNX Runtime's CPU kernel does not support, so that models built for other devices can be run and
 * differentiated while pruning; `undefined` for supported forms. Unsupported head sizes, and norms of packed heads, are
 * lowered to primitives. Norms of separate heads are moved before the operator. A sliding cache is empty without past,
 * so that only the window attribute matters. Padding is ignored: windows are full.
 */
export function rewriteGroupQuery(node: NodeProto, graph: GraphProto): NodeProto[] | undefined {
  const size = declaredHeadSize(node, graph) ?? impliedHeadSize(node, graph) ?? normWidth(node, graph);
  const hasNorms = node.input.slice(14).some(isPresent);
  const isFit = size === undefined || isRunnable(node, size, tableWidth(node.input[7], graph) ?? 0);
  if (!isFit || (hasNorms && !isPresent(node.input[1])))
    return size === undefined ? undefined : decomposeGroupQuery(node, graph, size);
  const slides = intAttribute(node, 'sliding_window_cache', 0) === 1;
  return hasNorms || slides ? simplify(node) : undefined;
}

/** Lowers it to primitives; B, S and the length of the past remain open. */
export function decomposeGroupQuery(node: NodeProto, graph: GraphProto, headSize: number): NodeProto[] {
  const [heads, kvHeads] = [intAttribute(node, 'num_heads', 1), intAttribute(node, 'kv_num_heads', 1)];
  const packed = isPresent(node.input[1]) ? 0 : 2 * kvHeads;
  const keys = [OPEN, OPEN, kvHeads * headSize];
  const cache = [OPEN, kvHeads, OPEN, headSize];
  const table = [OPEN, tableWidth(node.input[7], graph) ?? OPEN];
  const dims: Readonly<Record<number, readonly number[]>> = {
    0: [OPEN, OPEN, (heads + packed) * headSize],
    1: keys,
    2: keys,
    3: cache,
    4: cache,
    7: table,
    8: table,
    9: [OPEN, OPEN],
    10: [OPEN, heads, OPEN, OPEN],
    11: [heads],
    14: [headSize],
    15: [headSize],
  };
  const dataType = elementType(node, graph);
  return lowerNode(node, lowerGroupQuery, (slot) => ({ dims: dims[slot]!, dataType: slot === 9 ? INT64 : dataType }));
}

/** The operator without attributes and inputs that only other devices support. */
function simplify(node: NodeProto): NodeProto[] {
  const [query = '', key = ''] = node.input;
  const nodes: NodeProto[] = [];
  const emit = (op: string, inputs: readonly string[], attributes: NodeSpec['attributes'] = {}): string => {
    const output = `${node.output[0]}${LOWERED}${op}_${nodes.length}`;
    nodes.push(makeNode({ op, name: output, inputs, outputs: [output], attributes }));
    return output;
  };
  const reshape = (x: string, ...sizes: readonly number[]): string =>
    emit('Reshape', [x, emit('Constant', [], { value_ints: sizes })]);
  const normHeads = (x: string, count: number, weight: string | undefined): string => {
    if (!isPresent(weight)) return x;
    const attributes = { axis: -1, epsilon: readEpsilon(node) };
    return reshape(emit('SimplifiedLayerNormalization', [reshape(x, 0, 0, count, -1), weight], attributes), 0, 0, -1);
  };
  const input = [
    normHeads(query, intAttribute(node, 'num_heads', 1), node.input[14]),
    normHeads(key, intAttribute(node, 'kv_num_heads', 1), node.input[15]),
    ...node.input.slice(2, 14),
  ];
  const attribute = node.attribute.filter(({ name }) => name !== 'sliding_window_cache' && name !== 'qk_norm_epsilon');
  return [...nodes, create(NodeProtoSchema, { ...node, input, attribute })];
}

/** Requirements of ONNX Runtime's CPU kernel for a head size, and for the angles of its rotation: multiples of SIMD lanes. */
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

/** Head size by the norm's weight. */
function normWidth({ input }: NodeProto, { initializer }: GraphProto): number | undefined {
  const weight = initializer.find(({ name }) => name !== '' && name === input[14]);
  return weight && Number(weight.dims[0]);
}

/** Element type of the operands, as the cache or the cosine table declares it. */
function elementType(node: NodeProto, { input, initializer }: GraphProto): number {
  const cache = input.find(({ name }) => name === node.input[3])?.type?.value;
  if (cache?.case === 'tensorType') return cache.value.elemType;
  return initializer.find(({ name }) => name === node.input[7])?.dataType ?? FLOAT32;
}

export const GROUP_QUERY = {
  'com.microsoft.GroupQueryAttention': {
    ...PLAIN,
    axis: groupQueryAxes,
    update: updateHeadCounts('num_heads', 'kv_num_heads'),
    tokens: { causal: 'always' },
    gradient: { lower: lowerGroupQuery },
    cache: CACHE,
    positionTable: 7,
    run: rewriteGroupQuery,
  },
} as const satisfies Family;
