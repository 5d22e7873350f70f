import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema } from 'onnx-buf';
import { NumericalError } from '../../src/errors.js';
import { makeFloatInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { decodeFloats } from '../../src/onnx/float-encoding.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { floatsHandle } from '../../src/onnx/tensor-handle.js';
import { convertToHalf } from '../../src/quantisation/convert-floats.js';

const HALF = 10;
const FACTS = new Map(
  ['x', 'w', 'b', 'p', 'y'].map((name) => [name, { dataType: 1, dims: name === 'w' ? [2, 2] : [2] }] as const),
);

/** y = x w + b, in halves. */
function halfModel(w: readonly number[], b: readonly number[]): OnnxModel {
  const weights = new Map([
    ['w', floatsHandle({ dataType: 1, dims: [2, 2] }, Float32Array.from(w))],
    ['b', floatsHandle({ dataType: 1, dims: [2] }, Float32Array.from(b))],
  ]);
  const graph = create(GraphProtoSchema, {
    node: [
      makeNode({ op: 'MatMul', inputs: ['x', 'w'], outputs: ['p'] }),
      makeNode({ op: 'Add', inputs: ['p', 'b'], outputs: ['y'] }),
    ],
    initializer: [makeFloatInitializer('w', [2, 2], w), makeFloatInitializer('b', [2], b)],
    input: [makeValueInfo('x', 1, [1, 2])],
    output: [makeValueInfo('y', 1, [1, 2])],
  });
  const model = { proto: create(ModelProtoSchema, { graph }), weights };
  convertToHalf(model, FACTS as never);
  return model;
}

it('converts weights to float16, and clamps values that stand for infinity', async () => {
  const { weights } = halfModel([1, 2, 0.5, 65504], [-3e38, 1]);
  expect([...weights.values()].map(({ dataType }) => dataType)).toEqual([HALF, HALF]);
  expect([...decodeFloats(HALF, (await weights.get('w')!.read()) as never)]).toEqual([1, 2, 0.5, 65504]);
  expect([...decodeFloats(HALF, (await weights.get('b')!.read()) as never)]).toEqual([-65504, 1]);
});

it('refuses weights beyond the range of float16 by name', async () => {
  const { weights } = halfModel([1, 2, 0.5, 70_000], [0, 0]);
  const read = weights.get('w')!.read();
  await expect(read).rejects.toThrow(NumericalError);
  await expect(read).rejects.toThrow(/^weight "w" has numbers beyond 65504, .*; write a dtype of single precision/);
});

it.each([
  ['MatMul', ['s', 'w']],
  ['MatMulNBits', ['s', 'codes', 'scales']],
])('has %s read squares as halves, as its weight is', (op, inputs) => {
  const weights = new Map(
    inputs.slice(1).map((name) => [name, floatsHandle({ dataType: 1, dims: [2, 2] }, new Float32Array(4))] as const),
  );
  const graph = create(GraphProtoSchema, {
    node: [
      makeNode({ op: 'Mul', inputs: ['x', 'x'], outputs: ['b'] }),
      makeNode({ op: 'ReduceSum', inputs: ['b'], outputs: ['s'] }),
      makeNode({ op, inputs, outputs: ['p'] }),
    ],
    initializer: [...weights.keys()].map((name) => makeFloatInitializer(name, [2, 2], [0, 0, 0, 0])),
    input: [makeValueInfo('x', 1, [2, 2])],
    output: [makeValueInfo('p', 1, [2, 2])],
  });
  const model = { proto: create(ModelProtoSchema, { graph }), weights };
  convertToHalf(model, new Map([...FACTS, ['s', { dataType: 1, dims: [2, 2] }]]) as never);
  const [read] = graph.node.find(({ opType }) => opType === op)!.input;
  expect(read).toBe('s/as_float16');
  if (op === 'MatMul') expect(weights.get('w')!.dataType).toBe(HALF);
});
