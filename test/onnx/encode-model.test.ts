import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, type TensorProto, TensorProtoSchema } from 'onnx-buf';
import { makeFloatInitializer, makeInitializer, makeInt64Initializer, makeNode } from '../../src/onnx/build.js';
import { encodeModel } from '../../src/onnx/encode-model.js';

const floats = (count: number) => Float32Array.from({ length: count }, (_, at) => at / 7);
const rawFloats = (name: string, count: number) =>
  makeInitializer(name, 1, [count], new Uint8Array(floats(count).buffer));

function modelOf(initializer: TensorProto[]) {
  return create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [{ domain: '', version: 17n }],
    graph: create(GraphProtoSchema, {
      name: 'stage',
      node: [makeNode({ op: 'Add', inputs: ['x', 'large'], outputs: ['y'] })],
      initializer,
      input: [{ name: 'x' }],
      output: [{ name: 'y' }],
    }),
  });
}

it.each([
  ['no', []],
  ['small', [makeInt64Initializer('shape', [1, -1]), makeFloatInitializer('small', [3], [1, 2, 3])]],
  ['empty', [makeFloatInitializer('none', [0], []), rawFloats('large', 2000)]],
  ['large', [rawFloats('large', 2000), makeInt64Initializer('shape', [1, -1]), rawFloats('larger', 5000)]],
  ['typed', [create(TensorProtoSchema, { name: 'typed', dataType: 1, dims: [2n], floatData: [1.5, -2] })]],
])('encodes to bytes that decode to the same model (%s initializers)', (_, initializers) => {
  const model = modelOf(initializers);
  const found = fromBinary(ModelProtoSchema, encodeModel(model));
  expect(toBinary(ModelProtoSchema, found)).toEqual(toBinary(ModelProtoSchema, model));
});
