import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, type ValueInfoProto } from 'onnx-buf';
import { makeFloatInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { nameCacheAxes } from '../../src/onnx/name-cache-axes.js';
import { cachedAttention } from '../support/cached-attention.js';

const dimsOf = ({ type }: ValueInfoProto) =>
  type?.value.case === 'tensorType' ? type.value.value.shape?.dim.map(({ value }) => value.value) : undefined;

const graphOf = (first: ValueInfoProto) =>
  create(GraphProtoSchema, {
    input: [
      first,
      makeValueInfo('attention_mask', 7, ['s43', 's53']),
      makeValueInfo('past_key_values.0.key', 1, ['s10', 2, 'past', 'head_size']),
    ],
    node: [cachedAttention(), makeNode({ op: 'MatMul', inputs: ['mixed', 'weight'], outputs: ['y'] })],
    output: [makeValueInfo('y', 1, ['s10', 's70', 1]), makeValueInfo('present.0.key', 1, ['s10', 2, 's70', 16])],
    initializer: [makeFloatInitializer('weight', [64, 1], new Float32Array(64))],
  });

it('names the batch axis as transformers.js does, and fills in the head size of a cache', () => {
  const graph = graphOf(makeValueInfo('input_ids', 7, ['s10', 's70']));
  nameCacheAxes(graph);
  expect(graph.input.map(dimsOf)).toEqual([
    ['batch_size', 's70'],
    ['s43', 's53'],
    ['batch_size', 2n, 'past', 16n],
  ]);
  expect(graph.output.map(dimsOf)).toEqual([
    ['batch_size', 's70', 1n],
    ['batch_size', 2n, 's70', 16n],
  ]);
});

it.each([
  ['embeddings', makeValueInfo('inputs_embeds', 1, ['s10', 's70', 64]), ['batch_size', 2n, 'past', 'head_size']],
  ['one sequence', makeValueInfo('input_ids', 7, [1, 's70']), ['s10', 2n, 'past', 16n]],
])('names only the axes that the first input shows: %s', (_, first, dims) => {
  const graph = graphOf(first);
  nameCacheAxes(graph);
  expect(dimsOf(graph.input.at(-1)!)).toEqual(dims);
});
