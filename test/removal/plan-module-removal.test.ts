import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, type NodeProto, OperatorSetIdProtoSchema } from 'onnx-buf';
import type { OutputLinear } from '../../src/architecture/layout.js';
import { makeFloatInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { ValueFacts } from '../../src/onnx/value-facts.js';
import { bypassRemoved } from '../../src/removal/bypass-removed.js';
import { planModuleRemoval } from '../../src/removal/plan-module-removal.js';
import { tidyModel } from '../../src/removal/tidy-model.js';
import { testEngine } from '../support/engine.js';
import { bytesOf, relativeGap } from '../support/tiny-llama.js';

const LINEAR: OutputLinear = {
  node: 'down',
  input: 'h',
  result: 'down',
  weight: 'w',
  inputAxis: 0,
  inputCount: 3,
  outputCount: 4,
};
const ROWS: Readonly<Record<string, readonly number[]>> = {
  w: Array(12).fill(0),
  gamma: [1, 2, 3, 4],
  beta: [0.5, -1, 0, 2],
  bias: [1, -2, 0.25, 3],
  two: [2],
};
const factsOf = (dims: readonly number[]): ValueFacts =>
  new Map(
    ['x', 'y', 'down', 'scaled', 'biased', 'inner', 'sum', 'normed', 'normed/biased'].map((name) => [
      name,
      { dataType: 1, dims },
    ]),
  );
const facts = { first: factsOf([2, 3, 4]), second: factsOf([3, 5, 4]) };

/** A graph of `x` and `h` whose output projection is all zeros, so that its removal must not change the result. */
function modelOf(nodes: readonly NodeProto[], output: string) {
  const proto = create(ModelProtoSchema, {
    irVersion: 10n,
    opsetImport: [
      create(OperatorSetIdProtoSchema, { domain: '', version: 21n }),
      create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }),
    ],
    graph: create(GraphProtoSchema, {
      name: 'test',
      node: [makeNode({ op: 'MatMul', name: 'down', inputs: ['h', 'w'], outputs: ['down'] }), ...nodes],
      initializer: Object.entries(ROWS).map(([name, values]) =>
        makeFloatInitializer(name, name === 'w' ? [3, 4] : [values.length], values),
      ),
      input: [makeValueInfo('x', 1, ['b', 's', 4]), makeValueInfo('h', 1, ['b', 's', 3])],
      output: [makeValueInfo(output, 1, ['b', 's', 4])],
    }),
  });
  return loadModel(bytesSource('model.onnx', toBinary(ModelProtoSchema, proto)), createMemoryFolder('none'));
}

async function run(model: Awaited<ReturnType<typeof modelOf>>, output: string): Promise<Float32Array> {
  const session = await testEngine.load(await bytesOf(model));
  const tensor = (width: number) =>
    ({
      type: 'float32',
      dims: [2, 3, width],
      data: Float32Array.from({ length: 6 * width }, (_, at) => Math.sin(at)),
    }) as const;
  try {
    const results = await session.run({ x: tensor(4), h: tensor(3) }, [output]);
    return results[output]!.data as Float32Array;
  } finally {
    await session.release();
  }
}

const skip = (op: string, inputs: string[], outputs: string[]) =>
  makeNode({ op, domain: 'com.microsoft', inputs, outputs, attributes: { epsilon: { float: 1e-5 } } });
const norm = (op: string, inputs: string[], output: string) => makeNode({ op, inputs, outputs: [output] });
const last = makeNode({ op: 'Add', inputs: ['normed', 'sum'], outputs: ['y'] });
const sum = makeNode({ op: 'Add', inputs: ['scaled', 'x'], outputs: ['y'] });
const scale = (value: string) => makeNode({ op: 'Mul', inputs: [value, 'two'], outputs: ['scaled'] });

it.each<[string, NodeProto[], number]>([
  ['a plain sum', [scale('down'), sum], 0],
  ['a bias before the sum', [norm('Add', ['bias', 'down'], 'biased'), scale('biased'), sum], 1],
  ['a norm of its own', [norm('SimplifiedLayerNormalization', ['down', 'gamma'], 'inner'), scale('inner'), sum], 0],
  ['a norm with a bias', [norm('LayerNormalization', ['down', 'gamma', 'beta'], 'inner'), scale('inner'), sum], 1],
  [
    'a fused norm',
    [skip('SkipSimplifiedLayerNormalization', ['x', 'down', 'gamma'], ['normed', '', '', 'sum']), last],
    0,
  ],
  [
    'a fused norm with biases',
    [skip('SkipLayerNormalization', ['down', 'x', 'gamma', 'beta', 'bias'], ['normed', '', '', 'sum']), last],
    1,
  ],
])('removes a module that ends in %s', async (_, nodes, constantCount) => {
  const model = await modelOf(nodes, 'y');
  const before = await run(model, 'y');
  const removal = await planModuleRemoval(model, {
    engine: testEngine,
    facts,
    linear: LINEAR,
  });
  bypassRemoved(model, removal!.apply());
  tidyModel(model);
  expect(relativeGap(await run(model, 'y'), before)).toBeLessThan(1e-6);
  expect(model.weights.has('w')).toBe(false);
  expect(model.proto.graph!.node.filter(({ opType }) => opType === 'Identity').length).toBe(
    constantCount === 0 && nodes.at(-1) === sum ? 1 : 0,
  );
  expect([...model.weights.keys()].filter((name) => name.endsWith('/row')).length).toBe(constantCount);
});

it('adds the bias of the repair in place of the module', async () => {
  const model = await modelOf([scale('down'), sum], 'y');
  const before = await run(model, 'y');
  const bias = Float64Array.of(1, 2, 3, 4);
  const removal = await planModuleRemoval(model, {
    engine: testEngine,
    facts,
    linear: LINEAR,
    bias,
  });
  expect(removal!.apply()).toEqual([]);
  const after = await run(model, 'y');
  after.forEach((value, at) => {
    expect(value).toBeCloseTo(before[at]! + 2 * bias[at % 4]!, 5);
  });
});

it('returns undefined if the output is multiplied by another value', async () => {
  const model = await modelOf([makeNode({ op: 'Mul', inputs: ['down', 'x'], outputs: ['scaled'] }), sum], 'y');
  const bytes = await bytesOf(model);
  const plan = await planModuleRemoval(model, {
    engine: testEngine,
    facts,
    linear: LINEAR,
  });
  expect(plan).toBeUndefined();
  expect(Buffer.compare(await bytesOf(model), bytes)).toBe(0);
});
