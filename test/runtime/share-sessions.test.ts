import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, type NodeProto, OperatorSetIdProtoSchema } from 'onnx-buf';
import { makeFloatInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { canonicaliseNames } from '../../src/onnx/canonicalise-names.js';
import { encodeDetached } from '../../src/onnx/encode-model.js';
import type { Engine } from '../../src/runtime/engine.js';
import { shareSessions } from '../../src/runtime/share-sessions.js';
import { testEngine } from '../support/engine.js';

/** `y = x w + c`, with names that begin with `prefix`. */
function affine(prefix: string, { addend = 1, addends = 1, widthName = `${prefix}width` } = {}) {
  const name = (what: string) => `${prefix}${what}`;
  const nodes: NodeProto[] = [
    makeNode({ op: 'MatMul', name: name('map'), inputs: [name('x'), name('w')], outputs: [name('xw')] }),
    makeNode({ op: 'Add', name: name('sum'), inputs: [name('xw'), name('c')], outputs: [name('y')] }),
  ];
  return create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
    graph: create(GraphProtoSchema, {
      name: 'stage',
      node: nodes,
      initializer: [makeFloatInitializer(name('c'), [addends, 1], new Float32Array(addends).fill(addend))],
      input: [makeValueInfo(name('x'), 1, [1, widthName]), makeValueInfo(name('w'), 1, [2, 2])],
      output: [makeValueInfo(name('y'), 1, [addends, 2])],
    }),
  });
}
const bytesOf = (...given: Parameters<typeof affine>) => toBinary(ModelProtoSchema, affine(...given));

/** The test engine, with counts of created and of open sessions. */
function counting() {
  const count = { made: 0, alive: 0 };
  const engine: Pick<Engine, 'load'> = {
    async load(bytes, options) {
      const session = await testEngine.load(bytes, options);
      count.made += 1;
      count.alive += 1;
      return {
        ...session,
        async release() {
          count.alive -= 1;
          await session.release();
        },
      };
    },
  };
  return { count, engine: shareSessions(engine) };
}

const row = (...data: number[]) => ({ type: 'float32', dims: [1, 2], data: Float32Array.from(data) }) as const;
const square = (...data: number[]) => ({ type: 'float32', dims: [2, 2], data: Float32Array.from(data) }) as const;

it('creates one session for graphs that differ only in names, each with its own names', async () => {
  const { count, engine } = counting();
  const [first, second] = [await engine.load(bytesOf('a/')), await engine.load(bytesOf('b/'))];
  expect(count.made).toBe(1);
  expect(second.inputs.map(({ name }) => name)).toEqual(['b/x', 'b/w']);
  expect(second.outputs.map(({ name }) => name)).toEqual(['b/y']);
  const one = await first.run({ 'a/x': row(1, 2), 'a/w': square(1, 0, 0, 1) });
  const other = await second.run({ 'b/x': row(1, 2), 'b/w': square(0, 3, 1, 0) }, ['b/y']);
  expect([...one['a/y']!.data]).toEqual([2, 3]);
  expect([...other['b/y']!.data]).toEqual([3, 4]);
  await first.release();
  expect(count.alive).toBe(1);
  await second.release();
  expect(count.alive).toBe(0);
  await (await engine.load(bytesOf('c/'))).release();
  expect(count.made).toBe(2);
});

it.each([
  ['constants', { addend: 2 }, undefined],
  ['settings', {}, { keepsMemory: false }],
] as const)('creates another session if %s differ', async (_, given, options) => {
  const { count, engine } = counting();
  const sessions = [await engine.load(bytesOf('a/')), await engine.load(bytesOf('a/', given), options)];
  expect(count.made).toBe(2);
  for (const session of sessions) await session.release();
});

it('creates a session for each graph if its detached weights are too large to compare', async () => {
  const { count, engine } = counting();
  const load = (byteLength: number) =>
    engine.load(bytesOf('a/'), { weights: new Map([['weights/0', new Uint8Array(byteLength)]]) });
  const sessions = [await load(2 ** 21), await load(2 ** 21)];
  expect(count.made).toBe(1);
  sessions.push(await load(2 ** 21 + 1), await load(2 ** 21 + 1));
  expect(count.made).toBe(3);
  for (const session of sessions) await session.release();
});

it('throws the same error each time that a graph cannot be loaded', async () => {
  const { engine } = counting();
  const broken = affine('a/');
  broken.graph!.node[0]!.opType = 'NoSuchOperator';
  for (let time = 0; time < 2; time += 1)
    await expect(engine.load(toBinary(ModelProtoSchema, broken))).rejects.toThrow(/NoSuchOperator/);
});

it('does not rename values of graphs with subgraphs', () => {
  const model = affine('a/');
  model.graph!.node.push(makeNode({ op: 'Loop', inputs: ['', ''], outputs: ['a/z'], attributes: {} }));
  expect(canonicaliseNames(model)).toBeDefined();
  model.graph!.node.at(-1)!.attribute.push({
    ...model.graph!.node[0]!.attribute[0]!,
    name: 'body',
    g: create(GraphProtoSchema),
    graphs: [],
  } as never);
  expect(canonicaliseNames(model)).toBeUndefined();
});

it('shares sessions with equal detached weights, which outlive the first session', async () => {
  const { count, engine } = counting();
  const load = async (prefix: string, addend: number) => {
    const { bytes, weights } = encodeDetached(affine(prefix, { addend, addends: 1024 }));
    expect(weights.size).toBe(1);
    const session = await engine.load(bytes, { weights });
    for (const data of weights.values()) data.fill(0);
    return session;
  };
  const sessions = [await load('a/', 1), await load('b/', 1), await load('c/', 2)] as const;
  expect(count.made).toBe(2);
  await sessions[0].release();
  const [shared, other] = [
    await sessions[1].run({ 'b/x': row(1, 2), 'b/w': square(1, 0, 0, 1) }),
    await sessions[2].run({ 'c/x': row(1, 2), 'c/w': square(1, 0, 0, 1) }),
  ];
  expect([...(shared['b/y']!.data as Float32Array).subarray(0, 2)]).toEqual([2, 3]);
  expect([...(other['c/y']!.data as Float32Array).subarray(0, 2)]).toEqual([3, 4]);
  for (const session of sessions.slice(1)) await session.release();
  expect(count.alive).toBe(0);
});
