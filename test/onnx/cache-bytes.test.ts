import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema } from 'onnx-buf';
import { makeValueInfo } from '../../src/onnx/build.js';
import { cacheBytes } from '../../src/pipeline/choose-size.js';

it('counts keys, values and states of one sequence', () => {
  const graph = create(GraphProtoSchema, {
    name: 'decoder',
    input: [
      makeValueInfo('input_ids', 7, ['batch_size', 'sequence_length']),
      makeValueInfo('attention_mask', 7, ['batch_size', 'total']),
      makeValueInfo('past_key_values.0.key', 1, ['batch_size', 3, 'past_length', 64]),
      makeValueInfo('past_key_values.0.value', 1, ['batch_size', 3, 'past_length', 64]),
      makeValueInfo('past_key_values.1.recurrent', 1, ['batch_size', 4, 16, 16]),
    ],
  });
  expect(cacheBytes(graph, 2048, 4)).toBe(4 * (2 * 3 * 2048 * 64 + 4 * 16 * 16));
  expect(cacheBytes(graph, 2048, 2)).toBe(2 * (2 * 3 * 2048 * 64 + 4 * 16 * 16));
});
