import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { createRandom } from '../../src/linalg/random.js';
import { makeInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { copyModel, setWeight } from '../../src/onnx/edit-weights.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import { roundModel } from '../../src/prune/quantise-model.js';
import { dequantiseGraph } from '../../src/quantisation/dequantise-graph.js';
import { findWeights } from '../../src/quantisation/find-weights.js';
import { DYNAMIC_BITS, type DynamicType, dynamicWeights, writeDynamic } from '../../src/quantisation/write-dynamic.js';
import { tidyModel } from '../../src/removal/tidy-model.js';
import { runGraph } from '../support/load-graph.js';

const [TOKENS, INPUTS, OUTPUTS] = [4, 24, 16];
const random = createRandom(7);
const draw = (length: number) => Float32Array.from({ length }, () => random() - 0.5);

/** A product with a bias, and another of the same activations. */
function floatModel(opset: number): OnnxModel {
  const node = [
    makeNode({ op: 'Gemm', inputs: ['x', 'a', 'bias'], outputs: ['biased'] }),
    makeNode({ op: 'MatMul', inputs: ['x', 'b'], outputs: ['other'] }),
    makeNode({ op: 'Add', inputs: ['biased', 'other'], outputs: ['y'] }),
  ];
  const graph = create(GraphProtoSchema, { node, output: [makeValueInfo('y', 1)] });
  const opsetImport = [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) })];
  const matrix = () => floatsHandle({ dataType: 1, dims: [INPUTS, OUTPUTS] }, draw(INPUTS * OUTPUTS));
  const bias = floatsHandle({ dataType: 1, dims: [OUTPUTS] }, draw(OUTPUTS));
  const model = { proto: create(ModelProtoSchema, { graph, opsetImport }), weights: new Map() };
  setWeight(model, 'a', matrix());
  setWeight(model, 'b', matrix());
  setWeight(model, 'bias', bias);
  return model;
}

async function write(given: OnnxModel, type: DynamicType) {
  const planned = findWeights(given, 'ids').map((weight) => ({
    ...weight,
    grid: { bits: DYNAMIC_BITS[type], blockSize: weight.inCount, hasZeroPoints: false, scaleType: 'float32' } as const,
  }));
  const rounded = await roundModel(
    {
      model: given,
      options: {} as never,
      store: async (shape, values) => bytesHandle(shape, Uint8Array.from(values as Uint8Array)),
    },
    planned,
  );
  const model = copyModel(given);
  writeDynamic(model, dynamicWeights(rounded.weights, type), new Map([['x', { dims: [TOKENS, INPUTS], dataType: 1 }]]));
  tidyModel(model);
  return { model, dequantised: rounded.model };
}

async function run({ proto, weights }: OnnxModel, x: Float32Array, opset: number): Promise<Float32Array[]> {
  const initializers = await Promise.all(
    [...weights].map(async ([name, { dataType, dims, read }]) =>
      makeInitializer(name, dataType, [...dims], await read()),
    ),
  );
  const inputs = { x: { type: 'float32', dims: [x.length / INPUTS, INPUTS], data: x } } as const;
  const { node: nodes, valueInfo: declared } = proto.graph!;
  const { y } = await runGraph({ nodes, initializers, inputs, declared, outputs: ['y'], opset });
  const values = y!.data as Float32Array;
  return Array.from({ length: values.length / OUTPUTS }, (_, row) => values.slice(row * OUTPUTS, (row + 1) * OUTPUTS));
}

const farthest = (found: Float32Array, expected: Float32Array) =>
  Math.max(...found.map((value, at) => Math.abs(value - expected[at]!)));

const FORMS = [
  ['int8', 13],
  ['int8', 21],
  ['uint8', 13],
  ['uint8', 21],
] as const;

describe.each(FORMS)('%s by operators of opset %i', (type, opset) => {
  it('computes with its codes, unaffected by massive activations of another token', async () => {
    const { model, dequantised } = await write(floatModel(opset), type);
    // ONNX Runtime refuses shapes that contradict what it computes.
    expect(model.proto.graph!.valueInfo.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['x/sizes', 'x/step', 'other/sums']),
    );
    const x = draw(TOKENS * INPUTS);
    // The third is zeros only.
    x.fill(0, 2 * INPUTS, 3 * INPUTS);
    const expected = await run(dequantised, x, opset);
    const alone = await run(model, x, opset);
    // Half a step of each activation, times the weights' sizes, if all errors added up.
    const bound = (0.5 / 127 / 2) * 2 * 0.5 * INPUTS;
    for (const [row, values] of alone.entries()) expect(farthest(values, expected[row]!)).toBeLessThan(bound);
    expect(farthest(alone[2]!, expected[2]!)).toBeLessThan(1e-6);
    x[INPUTS + 5] = 3000;
    const withOutlier = await run(model, x, opset);
    for (const row of [0, 2, 3]) expect(withOutlier[row]).toEqual(alone[row]);
  });

  it('is read back as the floats of its codes', async () => {
    const { model, dequantised } = await write(floatModel(opset), type);
    const read = dequantiseGraph(model);
    expect(read.proto.graph!.node.map(({ opType }) => opType)).toEqual(['MatMul', 'Add', 'MatMul', 'Add']);
    for (const name of ['a', 'b']) {
      const found = await readFloat32(read.weights.get(name)!);
      const expected = await readFloat32(dequantised.weights.get(name)!);
      expect(farthest(found, expected)).toBeLessThan(1e-7);
    }
  });
});
