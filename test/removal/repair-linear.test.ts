import { create, toBinary } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from 'onnx-buf';
import { makeFloatInitializer, makeNode } from '../../src/onnx/build.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { addLinearBias } from '../../src/removal/repair-linear.js';

const SHAPE = { weight: 'w', inputAxis: 0, inputCount: 3, outputCount: 2 } as const;

function loadGraph(graph: { readonly node: NodeProto[]; readonly initializer: TensorProto[] }): Promise<OnnxModel> {
  const proto = create(ModelProtoSchema, {
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 21n })],
    graph: create(GraphProtoSchema, graph),
  });
  const bytes = toBinary(ModelProtoSchema, proto);
  return loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('none'));
}

it('adds a bias in the data type of the product, which a half precision weight behind a Cast does not have', async () => {
  const [float, half] = [1, 10];
  const weight = create(TensorProtoSchema, { name: 'w', dims: [3n, 2n], dataType: half, rawData: new Uint8Array(12) });
  const model = await loadGraph({
    node: [
      makeNode({ op: 'Cast', inputs: ['w'], outputs: ['wide'], attributes: { to: float } }),
      makeNode({ op: 'MatMul', inputs: ['h', 'wide'], outputs: ['down'] }),
    ],
    initializer: [weight],
  });
  await addLinearBias(model, { node: 'down', input: 'h', result: 'down', ...SHAPE }, Float64Array.of(1, 2));
  const [
    ,
    ,
    {
      opType,
      input: [, bias = ''],
    },
  ] = model.proto.graph!.node as [NodeProto, NodeProto, NodeProto];
  expect(opType).toBe('Add');
  expect(model.weights.get(bias)!.dataType).toBe(float);
});

it('does not change a norm bias in the same initializer as the bias of the layer', async () => {
  const model = await loadGraph({
    node: [
      makeNode({ op: 'MatMul', inputs: ['h', 'w'], outputs: ['down'] }),
      makeNode({
        op: 'SkipLayerNormalization',
        domain: 'com.microsoft',
        inputs: ['x', 'down', 'gamma', 'zeros', 'zeros'],
        outputs: ['y'],
      }),
    ],
    initializer: [
      makeFloatInitializer('w', [3, 2], Array(6).fill(1)),
      makeFloatInitializer('gamma', [2], [1, 1]),
      makeFloatInitializer('zeros', [2], [0, 0]),
    ],
  });
  await addLinearBias(model, { node: 'down', input: 'h', result: 'down', ...SHAPE }, Float64Array.of(1, 2));
  const [, , , beta = '', bias = ''] = model.proto.graph!.node[1]!.input;
  expect([...(await readFloat32(model.weights.get(beta)!))]).toEqual([0, 0]);
  expect([...(await readFloat32(model.weights.get(bias)!))]).toEqual([1, 2]);
});
