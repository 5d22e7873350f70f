import { create } from '@bufbuild/protobuf';
import { AttributeProtoSchema, GraphProtoSchema, TensorProtoSchema } from 'onnx-buf';
import { makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { encodeFloats } from '../../src/onnx/float-encoding.js';
import { convertGraphToSingle, typeOf } from '../../src/onnx/retype-floats.js';

const HALF = 10;
const VALUES = [1.5, -2, 0.25];
const rawHalves = encodeFloats(HALF, Float64Array.from(VALUES));

const half = (name: string, contents: object) =>
  create(TensorProtoSchema, { name, dataType: HALF, dims: [3n], ...contents });

it('converts float16 to float32 in initializers, inputs and branches', () => {
  const inner = create(GraphProtoSchema, {
    node: [makeNode({ op: 'Cast', inputs: ['x'], outputs: ['y'], attributes: { to: HALF } })],
    output: [makeValueInfo('y', HALF, [3])],
  });
  const graph = create(GraphProtoSchema, {
    initializer: [
      half('raw', { rawData: rawHalves }),
      half('typed', { int32Data: Array.from(new Uint16Array(rawHalves.slice().buffer)) }),
      half('elsewhere', {}),
    ],
    node: [makeNode({ op: 'If', inputs: ['c'], outputs: ['z'], attributes: {} })],
    input: [makeValueInfo('x', HALF, [3]), makeValueInfo('ids', 7, [3])],
  });
  graph.node[0]!.attribute.push(create(AttributeProtoSchema, { name: 'then_branch', g: inner }));
  convertGraphToSingle(graph);
  expect(graph.initializer.map(({ dataType }) => dataType)).toEqual([1, 1, 1]);
  for (const { rawData } of graph.initializer.slice(0, 2))
    expect([...new Float32Array(Uint8Array.from(rawData).buffer)]).toEqual(VALUES);
  expect(graph.initializer[2]!.rawData).toHaveLength(0);
  expect(graph.input.map(typeOf)).toEqual([1, 7]);
  const branch = graph.node[0]!.attribute[0]!.g!;
  expect(branch.node[0]!.attribute.find(({ name }) => name === 'to')!.i).toBe(1n);
  expect(branch.output.map(typeOf)).toEqual([1]);
});
