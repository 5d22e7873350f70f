import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema } from 'onnx-buf';
import { EngineError, UnsupportedModelError } from '../../src/errors.js';
import { makeNode } from '../../src/onnx/build.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import { refuseUnrunnable } from '../../src/runtime/refuse-unrunnable.js';

const graph = create(GraphProtoSchema, {
  node: [makeNode({ op: 'MatMul', name: 'block.0/MatMul', inputs: ['x', 'w'], outputs: ['y'] })],
});
const modelOf = (types: readonly number[]) => ({
  proto: create(ModelProtoSchema, { graph }),
  weights: new Map(types.map((dataType) => [`w${dataType}`, bytesHandle({ dataType, dims: [0] }, new Uint8Array())])),
});
const explain = (message: string, types: number[] = [1]) =>
  refuseUnrunnable(new EngineError(`ONNX Runtime cannot: ${message}`, { cause: new Error(message) }), {
    engine: { name: 'onnxruntime (cpu)' },
    model: modelOf(types),
  });

it.each([
  [
    "Could not find an implementation for MatMul(13) node with name 'block.0/MatMul'",
    [16],
    /MatMul "block.0\/MatMul".*its weights are bfloat16.*float32 or float16/,
  ],
  [
    "Non-zero status code returned while running Add node. Name:'y/lowered/Add_3' Status Message: no",
    [1],
    /does not support.* \("no"\): MatMul "block.0\/MatMul"/,
  ],
  [
    "Non-zero status code returned while running MatMul node. Name:'block.0/MatMul' Status Message: /src/math.cc:9 n was false",
    [1],
    /inputs of this model: MatMul "block.0\/MatMul"/,
  ],
  [
    'This is an invalid model. Type Error: Type in node (block.0/MatMul) is invalid.',
    [1],
    /considers a node of this model invalid: MatMul "block.*; its exporter wrote a file that is not valid: export/,
  ],
  ['Node (block.0/MatMul) Op (MatMul) [ShapeInferenceError] no', [1], /invalid: MatMul "block/],
  [
    'Unsupported model IR version: 40, max supported IR version: 13',
    [1],
    /does not know IR version 40.*IR version 40 needs a newer one: install that onnxruntime-node/,
  ],
  [
    'Opset 40 is under development and support is limited. Current official support for domain ai.onnx is till opset 26.',
    [1],
    /knows ai.onnx up to opset 26, and the model is of opset 40/,
  ],
  [
    'Opset 24 is under development and support is limited. Current official support for domain ai.onnx is till opset 22.',
    [1],
    /up to opset 22, and the model is of opset 24; opset 24 of ai.onnx needs 1\.24 or newer: install that/,
  ],
  [
    'Fatal error: com.microsoft:NewAttention(-1) is not a registered function/op',
    [1],
    /does not know the operator com.microsoft:NewAttention; update onnxruntime-node where it is older/,
  ],
  ['Fatal error: my.ops:Foo(-1) is not a registered function/op', [1], /does not know the operator my.ops:Foo;/],
  [
    'Got invalid dimensions for input: input_ids for the following indices',
    [1],
    /accepts "input_ids" in a fixed size only; export.*open batch/,
  ],
  [
    "Invalid model. Node input 'x' is not a graph input",
    [1],
    /considers the graph invalid; its exporter wrote a file that is not valid/,
  ],
  [
    'External data path validation failed for initializer: w. Error: External data path escapes model directory.',
    [1],
    /does not read its external data from there; put the file itself into the folder.*links/,
  ],
  ['something else', [1], /names no node.*--verbose/],
])('explains the message: %s', (message, types, expected) => {
  const error = explain(message, types) as UnsupportedModelError;
  expect(error).toBeInstanceOf(UnsupportedModelError);
  expect(error.message).toMatch(expected);
  expect(error.message).not.toContain(message);
  expect(error.cause).toBeInstanceOf(EngineError);
});

it('reads a message of 200,000 characters within a second', () => {
  const began = performance.now();
  explain(`mode ${'a'.repeat(200_000)} is not supported`);
  expect(performance.now() - began).toBeLessThan(1000);
});

it('does not explain errors that are not about the model', () => {
  const stopped = new Error('stopped');
  expect(refuseUnrunnable(stopped, { engine: { name: 'x' }, model: modelOf([]) })).toBe(stopped);
  expect(explain('Failed to allocate memory for requested buffer of size 9')).toBeInstanceOf(EngineError);
});
