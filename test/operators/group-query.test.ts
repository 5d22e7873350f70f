import { create } from '@bufbuild/protobuf';
import { AttributeProto_AttributeType, AttributeProtoSchema, GraphProtoSchema } from 'onnx-buf';
import { EngineError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';
import { intAttribute } from '../../src/onnx/attributes.js';
import { type AttributeValue, makeFloatInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { decomposeGroupQuery, rewriteGroupQuery } from '../../src/operators/group-query.js';
import type { Tensor, Tensors } from '../../src/runtime/engine.js';
import { runGraph } from '../support/load-graph.js';

const [ROWS, HEADS, KV_HEADS, SIZE, LONGEST] = [5, 4, 2, 16, 12];
const random = createRandom(5);
const floats = (...dims: number[]): Tensor => ({
  type: 'float32',
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 4 - 2),
});
const ints = (dims: number[], values: number[]): Tensor => ({ type: 'int32', dims, data: Int32Array.from(values) });

interface Form {
  readonly batch?: number;
  readonly isPacked?: boolean;
  readonly pastLength?: number;
  readonly rotated?: number;
  readonly more?: Readonly<Record<number, Tensor>>;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
}

const SLOTS = [
  'q',
  'k',
  'v',
  'past_k',
  'past_v',
  'lengths',
  'total',
  'cos',
  'sin',
  'positions',
  'bias',
  'sink',
  'k_scale',
  'v_scale',
  'q_norm',
  'k_norm',
];

/** The operator's node, the tables that are weights, and its feeds. */
function attention({ batch = 2, isPacked = false, pastLength = 0, rotated, more = {}, attributes = {} }: Form) {
  const total = pastLength + ROWS;
  const feeds: (Tensor | undefined)[] = [
    floats(batch, ROWS, (HEADS + (isPacked ? 2 * KV_HEADS : 0)) * SIZE),
    ...(isPacked
      ? [undefined, undefined]
      : [floats(batch, ROWS, KV_HEADS * SIZE), floats(batch, ROWS, KV_HEADS * SIZE)]),
    floats(batch, KV_HEADS, pastLength, SIZE),
    floats(batch, KV_HEADS, pastLength, SIZE),
    ints([batch], new Array(batch).fill(total - 1)),
    ints([1], [total]),
  ];
  for (const [slot, tensor] of Object.entries(more)) feeds[Number(slot)] = tensor;
  const angles = Array.from({ length: LONGEST * ((rotated ?? 0) / 2) }, () => random() * 6);
  const tables =
    rotated === undefined
      ? []
      : [
          makeFloatInitializer('cos', [LONGEST, rotated / 2], angles.map(Math.cos)),
          makeFloatInitializer('sin', [LONGEST, rotated / 2], angles.map(Math.sin)),
        ];
  const inputs = SLOTS.map((name, slot) => (feeds[slot] || (tables.length > 0 && [7, 8].includes(slot)) ? name : ''));
  const node = makeNode({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs,
    outputs: ['y', 'present_k', 'present_v'],
    attributes: {
      num_heads: HEADS,
      kv_num_heads: KV_HEADS,
      ...(rotated !== undefined && { do_rotary: 1 }),
      ...attributes,
    },
  });
  const given: Tensors = Object.fromEntries(
    SLOTS.flatMap((name, slot) => (feeds[slot] === undefined ? [] : [[name, feeds[slot]]])),
  );
  return { node, tables, feeds: given };
}

const FORMS: readonly (readonly [string, Form])[] = [
  ['three inputs', {}],
  ['packed and rotated', { isPacked: true, rotated: SIZE }],
  ['rotated in interleaved pairs', { rotated: SIZE, attributes: { rotary_interleaved: 1 } }],
  [
    'a window, a scale and a cap',
    { attributes: { local_window_size: 3, scale: { float: 0.3 }, softcap: { float: 2 } } },
  ],
  ['a cache', { batch: 1, isPacked: true, rotated: SIZE, pastLength: 4, attributes: { local_window_size: 6 } }],
  ['a bias', { more: { 10: floats(1, HEADS, ROWS, ROWS) } }],
  ['sinks', { more: { 11: floats(HEADS) } }],
  ['a smooth softmax', { attributes: { smooth_softmax: 1 } }],
];

describe('rewritten GroupQueryAttention', () => {
  it.each(FORMS)('computes what the fused operator does: %s', async (_, form) => {
    const { node, tables, feeds } = attention(form);
    const run = (nodes: readonly (typeof node)[]) =>
      runGraph({ nodes, initializers: tables, inputs: feeds, outputs: ['y', 'present_k', 'present_v'] });
    const graph = create(GraphProtoSchema, { initializer: tables });
    const [want, got] = [await run([node]), await run(decomposeGroupQuery(node, graph, SIZE))];
    for (const name of ['y', 'present_k', 'present_v']) {
      expect(got[name]!.dims).toEqual(want[name]!.dims);
      const gaps = (got[name]!.data as Float32Array).map((value, at) => Math.abs(value - Number(want[name]!.data[at])));
      expect(Math.max(...gaps)).toBeLessThan(1e-5);
    }
  });

  it.each([
    ['norms of heads', { 14: floats(SIZE), 15: floats(SIZE) }, {}],
    ['a norm of packed heads', { 14: floats(SIZE), 15: floats(SIZE) }, {}],
    ['a sliding cache', {}, { sliding_window_cache: 1 }],
    ['both', { 14: floats(SIZE), 15: floats(SIZE) }, { sliding_window_cache: 1 }],
  ])('runs in a form that the kernel supports: %s', async (name, more, attributes) => {
    const { node, tables, feeds } = attention({
      isPacked: name.includes('packed'),
      rotated: SIZE,
      more,
      attributes: { local_window_size: 3, ...attributes },
    });
    const run = (nodes: readonly (typeof node)[]) =>
      runGraph({ nodes, initializers: tables, inputs: feeds, outputs: ['y', 'present_k', 'present_v'] });
    const graph = create(GraphProtoSchema, {
      initializer: tables,
      input: [makeValueInfo('past_k', 1, ['B', KV_HEADS, 'P', SIZE])],
    });
    await expect(run([node])).rejects.toThrow(EngineError);
    const [want, got] = [await run(decomposeGroupQuery(node, graph, SIZE)), await run(rewriteGroupQuery(node, graph)!)];
    for (const value of ['y', 'present_k', 'present_v']) {
      const gaps = (got[value]!.data as Float32Array).map((x, at) => Math.abs(x - Number(want[value]!.data[at])));
      expect(Math.max(...gaps)).toBeLessThan(1e-5);
    }
  });

  it.each([
    [16, 0, true],
    [24, 0, true],
    [20, 0, false],
    [16, 16, true],
    [24, 24, false],
    [16, 8, false],
    [32, 16, true],
  ])('remains fused if the kernel supports head size %d, with %d rotated: %s', (size, rotated, isFused) => {
    const { node, tables } = attention(rotated > 0 ? { rotated } : {});
    const byCache = create(GraphProtoSchema, {
      input: [makeValueInfo('past_k', 1, ['B', KV_HEADS, 'P', size])],
      initializer: tables,
    });
    const byReader = create(GraphProtoSchema, {
      input: [makeValueInfo('past_k', 1, ['B', KV_HEADS, 'P', 'D'])],
      node: [node, makeNode({ op: 'MatMul', inputs: ['y', 'w'], outputs: ['z'] })],
      initializer: [...tables, makeFloatInitializer('w', [HEADS * size, 1], new Float32Array(HEADS * size))],
    });
    for (const graph of [byCache, byReader]) expect(rewriteGroupQuery(node, graph) === undefined).toBe(isFused);
  });

  it.each([
    [8, true],
    [4, false],
  ])('reads the width of tables in branches: %d angles', (angles, isFused) => {
    const { node } = attention({ rotated: SIZE });
    const branch = (rows: number) => {
      const tables = ['cos', 'sin'].map((name) => {
        const t = makeFloatInitializer('', [rows, angles], new Float32Array(rows * angles));
        const value = create(AttributeProtoSchema, { name: 'value', type: AttributeProto_AttributeType.TENSOR, t });
        return Object.assign(makeNode({ op: 'Constant', inputs: [], outputs: [name] }), { attribute: [value] });
      });
      const output = ['cos', 'sin'].map((name) => makeValueInfo(name, 1));
      const type = AttributeProto_AttributeType.GRAPH;
      return create(AttributeProtoSchema, {
        name: `${rows}`,
        type,
        g: create(GraphProtoSchema, { node: tables, output }),
      });
    };
    const choice = makeNode({ op: 'If', inputs: ['is_long'], outputs: ['cos', 'sin'] });
    const graph = create(GraphProtoSchema, {
      input: [makeValueInfo('past_k', 1, ['B', KV_HEADS, 'P', SIZE])],
      node: [Object.assign(choice, { attribute: [branch(LONGEST), branch(2 * LONGEST)] }), node],
    });
    const lowered = rewriteGroupQuery(node, graph);
    expect(lowered === undefined).toBe(isFused);
    const rotations = lowered?.filter(({ opType }) => opType === 'RotaryEmbedding') ?? [];
    for (const rotation of rotations) expect(intAttribute(rotation, 'rotary_embedding_dim', 0)).toBe(2 * angles);
    expect(rotations).toHaveLength(isFused ? 0 : 2);
  });
});
