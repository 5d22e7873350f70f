import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { makeInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { indexGraph } from '../../src/onnx/graph-index.js';
import { floatsHandle } from '../../src/onnx/tensor-handle.js';
import { compileStage } from '../../src/runtime/compile-stage.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { testEngine } from '../support/engine.js';

const [ROWS, HEADS, SIZE] = [5, 2, 16];
const [FLOAT, FLOAT16, INT32] = [1, 10, 6];
const halves = (...dims: number[]): Tensor => ({
  type: 'float16',
  dims,
  data: new Uint16Array(dims.reduce((product, dim) => product * dim, 1)).fill(0x3c00),
});
const ints = (...values: number[]): Tensor => ({ type: 'int32', dims: [values.length], data: Int32Array.from(values) });

/** Three unit matrices side by side. */
const weight = halves(HEADS * SIZE, 3 * HEADS * SIZE);
weight.data.forEach((_, at) => {
  const [row, column] = [Math.floor(at / (3 * HEADS * SIZE)), at % (3 * HEADS * SIZE)];
  weight.data[at] = column % (HEADS * SIZE) === row ? 0x3c00 : 0;
});
const bytesOf = ({ data }: Tensor) => new Uint8Array((data as Uint16Array<ArrayBuffer>).buffer);

/** Two attentions one after the other, in half precision, each with a cache whose sizes but the past length are known. */
function twoAttentions() {
  const blocks = [0, 1];
  const cache = ['batch', HEADS, 'past', SIZE];
  const domain = 'com.microsoft';
  return create(ModelProtoSchema, {
    irVersion: 10n,
    opsetImport: [
      create(OperatorSetIdProtoSchema, { domain: '', version: 21n }),
      create(OperatorSetIdProtoSchema, { domain, version: 1n }),
    ],
    graph: create(GraphProtoSchema, {
      name: 'two',
      node: blocks.flatMap((at) => [
        makeNode({ op: 'MatMul', inputs: [`x${at}`, 'weight'], outputs: [`qkv${at}`] }),
        makeNode({
          op: 'GroupQueryAttention',
          domain,
          inputs: [`qkv${at}`, '', '', `past.${at}.key`, `past.${at}.value`, 'lengths', 'total'],
          outputs: [`x${at + 1}`, `present.${at}.key`, `present.${at}.value`],
          attributes: { num_heads: HEADS, kv_num_heads: HEADS },
        }),
      ]),
      initializer: [makeInitializer('weight', FLOAT16, [HEADS * SIZE, 3 * HEADS * SIZE], bytesOf(weight))],
      input: [
        makeValueInfo('x0', FLOAT16, ['batch', 'rows', HEADS * SIZE]),
        ...blocks.flatMap((at) => ['key', 'value'].map((kind) => makeValueInfo(`past.${at}.${kind}`, FLOAT16, cache))),
        makeValueInfo('lengths', INT32, ['batch']),
        makeValueInfo('total', INT32, [1]),
      ],
    }),
  });
}

it('declares unread caches as outputs, but does not return them', async () => {
  const proto = twoAttentions();
  const index = indexGraph(proto.graph!);
  const none = new Map();
  const { session, inputs } = await compileStage({
    engine: testEngine,
    model: { proto, weights: none },
    index,
    isAvailable: (value) => index.inputs.has(value),
    fetches: ['x2'],
    facts: { first: none, second: none },
  });
  // Outputs have memory of their own; without them, ONNX Runtime stopped on SmolLM2's float16 build by genai 0.9.
  expect(session.outputs.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['present.0.key', 'present.0.value', 'present.1.key', 'present.1.value']),
  );
  const empty = halves(1, HEADS, 0, SIZE);
  const feeds = Object.fromEntries(inputs.map((name) => [name, empty]));
  const results = await session.run({
    ...feeds,
    x0: halves(1, ROWS, HEADS * SIZE),
    lengths: ints(ROWS - 1),
    total: ints(ROWS),
  });
  expect(Object.keys(results)).toEqual(['x2']);
  // The mean of ones is one.
  expect([...new Set(results.x2!.data as Uint16Array)]).toEqual([0x3c00]);
  await session.release();
});

describe('weights that are fed', () => {
  const model = {
    proto: create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 21n })],
      graph: create(GraphProtoSchema, {
        name: 'two maps',
        node: [
          makeNode({ op: 'MatMul', inputs: ['x', 'first'], outputs: ['h'] }),
          makeNode({ op: 'MatMul', inputs: ['h', 'second'], outputs: ['y'] }),
        ],
        initializer: [
          makeInitializer('first', FLOAT, [3, 3], new Uint8Array()),
          makeInitializer('second', FLOAT, [3, 1], new Uint8Array()),
        ],
        input: [makeValueInfo('x', FLOAT, [2, 3])],
      }),
    }),
    weights: new Map([
      ['first', floatsHandle({ dataType: FLOAT, dims: [3, 3] }, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9))],
      ['second', floatsHandle({ dataType: FLOAT, dims: [3, 1] }, Float32Array.of(1, -1, 0.5))],
    ]),
  };
  const x: Tensor = { type: 'float32', dims: [2, 3], data: Float32Array.of(1, 0, -1, 2, 3, 4) };
  const column = (...values: number[]): Tensor => ({ type: 'float32', dims: [3, 1], data: Float32Array.from(values) });
  const compile = (fed?: ReadonlySet<string>) => {
    const index = indexGraph(model.proto.graph!);
    const facts = { first: new Map(), second: new Map() };
    const isAvailable = (value: string) => value === 'x';
    return compileStage({ engine: testEngine, model, index, isAvailable, fetches: ['y'], facts, fed });
  };

  it('give the same result as initializers, and change without a new session', async () => {
    const inside = await compile();
    const feeding = await compile(new Set(['second', 'of no stage']));
    const inputsOf = ({ session }: typeof inside) => session.inputs.map(({ name }) => name);
    expect([inputsOf(inside), inputsOf(feeding)]).toEqual([['x'], ['x', 'second']]);
    const plain = await inside.session.run({ x });
    expect(await feeding.session.run({ x, second: column(1, -1, 0.5) })).toEqual(plain);
    const { y } = await feeding.session.run({ x, second: column(0, 2, 1) });
    // h = [-6, -6, -6], [42, 51, 60]
    expect([...(y!.data as Float32Array)]).toEqual([-18, 162]);
    await Promise.all([inside.session.release(), feeding.session.release()]);
  });
});

it('compiles a gated attention of ONNX whose weights are fed', async () => {
  const width = HEADS * SIZE;
  const attributes = { q_num_heads: HEADS, kv_num_heads: HEADS };
  const names = ['query', 'key', 'value'];
  const matrix = new Float32Array(width * width).fill(1 / width);
  const proto = create(ModelProtoSchema, {
    irVersion: 10n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 23n })],
    graph: create(GraphProtoSchema, {
      name: 'gated',
      node: [
        ...names.map((name) => makeNode({ op: 'MatMul', inputs: ['x', `${name}_weight`], outputs: [name] })),
        makeNode({ op: 'Attention', inputs: names, outputs: ['mixed'], attributes }),
        makeNode({ op: 'Sigmoid', inputs: ['x'], outputs: ['gate'] }),
        makeNode({ op: 'Mul', inputs: ['mixed', 'gate'], outputs: ['result'] }),
      ],
      initializer: names.map((name) =>
        makeInitializer(`${name}_weight`, FLOAT, [width, width], new Uint8Array(matrix.buffer)),
      ),
      input: [makeValueInfo('x', FLOAT, ['batch', 'rows', width])],
    }),
  });
  const weights = new Map(
    names.map((name) => [`${name}_weight`, floatsHandle({ dataType: FLOAT, dims: [width, width] }, matrix)]),
  );
  const index = indexGraph(proto.graph!);
  const facts = { first: new Map(), second: new Map() };
  const model = { proto, weights };
  const compile = { engine: testEngine, model, index, facts, fetches: ['result'], fed: new Set(weights.keys()) };
  const { session } = await compileStage({ ...compile, isAvailable: (value) => value === 'x' });
  const x: Tensor = { type: 'float32', dims: [1, ROWS, width], data: new Float32Array(ROWS * width).fill(1) };
  const feeds = names.map((name): [string, Tensor] => [
    `${name}_weight`,
    { type: 'float32', dims: [width, width], data: matrix },
  ]);
  const { result } = await session.run({ x, ...Object.fromEntries(feeds) });
  await session.release();
  expect(result!.dims).toEqual([1, ROWS, width]);
  expect(Number(result!.data[0])).toBeCloseTo(1 / (1 + Math.exp(-1)), 5);
});
