import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema } from 'onnx-buf';
import { UnsupportedModelError } from '../../src/errors.js';
import { makeFloatInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { prefillDims, readModelInputs } from '../../src/onnx/model-inputs.js';
import { cachedAttention } from '../support/cached-attention.js';

it.each([
  ['', []],
  [' after a gate', [makeNode({ op: 'Mul', inputs: ['mixed', 'gate'], outputs: ['gated'] })]],
])('infers a symbolic head size of a cache from its attention%s', (_, gate) => {
  const graph = create(GraphProtoSchema, {
    input: [
      makeValueInfo('input_ids', 7, ['batch', 'sequence']),
      makeValueInfo('past_key_values.0.key', 1, ['batch', 2, 'past', 'head_size']),
    ],
    node: [
      cachedAttention(),
      ...gate,
      makeNode({ op: 'MatMul', inputs: [gate[0]?.output[0] ?? 'mixed', 'weight'], outputs: ['y'] }),
    ],
    initializer: [makeFloatInitializer('weight', [64, 1], new Float32Array(64))],
  });
  const [, past] = readModelInputs(graph);
  expect(past!.dims).toEqual(['batch', 2, 'past', 16]);
  expect(prefillDims(past!, { batchSize: 3, sequenceLength: 5 })).toEqual([3, 2, 0, 16]);
});

it('gives each axis of position ids a row', () => {
  const readPositions = (...dims: (number | string)[]) => {
    const input = [makeValueInfo('input_ids', 7, ['batch', 'sequence']), makeValueInfo('position_ids', 7, dims)];
    return prefillDims(readModelInputs(create(GraphProtoSchema, { input }))[1]!, { batchSize: 2, sequenceLength: 5 });
  };
  expect(readPositions('batch', 'sequence')).toEqual([2, 5]);
  expect(readPositions(3, 'batch', 'sequence')).toEqual([3, 2, 5]);
  expect(readPositions('axes', 'batch', 'sequence')).toEqual([3, 2, 5]);
});

it('names the missing embedding model of a decoder that reads embeddings', () => {
  const input = [makeValueInfo('inputs_embeds', 1, ['batch', 'sequence', 64])];
  expect(() => readModelInputs(create(GraphProtoSchema, { input }))).toThrow(
    /reads "inputs_embeds" instead of token ids; join its embedding model with joinEmbedding/,
  );
});

describe('states of convolutions and recurrences', () => {
  const names = ['past.0.conv', 'past_conv.0', 'past_key_values.3.conv_state', 'past_key_values.3.recurrent_state'];
  const graphWith = (name: string, dims: readonly (number | string)[]) =>
    create(GraphProtoSchema, {
      input: [makeValueInfo('input_ids', 7, ['batch', 'sequence']), makeValueInfo(name, 1, dims)],
    });

  it.each([...names, 'past_ssm.1'])('are recognised by name: %s', (name) => {
    const [, state] = readModelInputs(graphWith(name, ['batch', 64, 2]));
    expect(state!.role).toBe('state');
    expect(prefillDims(state!, { batchSize: 3, sequenceLength: 5 })).toEqual([3, 64, 2]);
  });

  it('are refused if their sizes are symbolic', () => {
    const reading = () => readModelInputs(graphWith('past.0.conv', ['batch', 64, 'taps']));
    expect(reading).toThrow(UnsupportedModelError);
    expect(reading).toThrow(/"past\.0\.conv" carries a state of dims \[batch,64,taps\].*fixed sizes/);
  });
});
