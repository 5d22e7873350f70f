import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { makeFloatInitializer, makeNode } from '../../src/onnx/build.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { addLinearBias } from '../../src/removal/repair-linear.js';

it('does not change a norm bias in the same initializer as the bias of the layer', async () => {
  const proto = create(ModelProtoSchema, {
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 21n })],
    graph: create(GraphProtoSchema, {
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
    }),
  });
  const bytes = toBinary(ModelProtoSchema, proto);
  const model = await loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('none'));
  const shape = { weight: 'w', inputAxis: 0, inputCount: 3, outputCount: 2 } as const;
  await addLinearBias(model, { node: 'down', input: 'h', result: 'down', ...shape }, Float64Array.of(1, 2));
  const [, , , beta = '', bias = ''] = model.proto.graph!.node[1]!.input;
  expect([...(await readFloat32(model.weights.get(beta)!))]).toEqual([0, 0]);
  expect([...(await readFloat32(model.weights.get(bias)!))]).toEqual([1, 2]);
});
