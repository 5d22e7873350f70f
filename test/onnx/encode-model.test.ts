import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema } from 'onnx-buf';
import { makeFloatInitializer, makeInitializer, makeInt64Initializer, makeNode } from '../../src/graph/build.js';
import { encodeModel } from '../../src/onnx/encode-model.js';

const floats = (count: number) => Float32Array.from({ length: count }, (_, at) => at / 7);
const rawFloats = (name: string, count: number) =>
  makeInitializer(name, 1, [count], new Uint8Array(floats(count).buffer));

function modelOf(initializer: ReturnType<typeof makeInitializer>[]) {
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
  ['none', [makeInt64Initializer('shape', [1, -1]), makeFloatInitializer('small', [3], [1, 2, 3])], []],
  [
    'some',
    [rawFloats('large', 2000), makeInt64Initializer('shape', [1, -1]), rawFloats('larger', 5000)],
    ['large', 'larger'],
  ],
  ['all', [rawFloats('large', 1024)], ['large']],
])('reads back as what was encoded, large payloads last (%s)', (_, initializers, large) => {
  const model = modelOf(initializers);
  const found = fromBinary(ModelProtoSchema, encodeModel(model));
  const names = initializers.map(({ name }) => name);
  const reordered = [...names.filter((name) => !large.includes(name)), ...large];
  expect(found.graph!.initializer.map(({ name }) => name)).toEqual(reordered);
  const wanted = modelOf(reordered.map((name) => initializers[names.indexOf(name)]!));
  expect(toBinary(ModelProtoSchema, found)).toEqual(toBinary(ModelProtoSchema, wanted));
});
