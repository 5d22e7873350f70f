import { readModelInterface } from '../../src/evaluation/model-interface.js';
import { prefillDims } from '../../src/onnx/model-inputs.js';
import type { Session } from '../../src/runtime/engine.js';

const session = (length: string): Session => ({
  inputs: [
    { name: 'input_ids', type: 'int64', dims: ['batch', 'sequence'] },
    { name: 'past_key_values.0.key', type: 'float32', dims: ['batch', 2, length, 'kv_cache_dim'] },
  ],
  outputs: [
    { name: 'logits', type: 'float32', dims: ['batch', 'sequence', 40] },
    { name: 'present.0.key', type: 'float32', dims: ['batch', 2, 'total', 'kv_cache_dim'] },
  ],
  run: async () => ({}),
  release: async () => undefined,
});

const pastDims = (length: string, sizes?: Parameters<typeof readModelInterface>[1]) =>
  prefillDims(readModelInterface(session(length), sizes).inputs[1]!, { batchSize: 3, sequenceLength: 5 });

it('fills in sizes of caches that are symbolic in the graph', () => {
  expect(pastDims('past_sequence_length', { headSize: 16, slidingWindow: 12 })).toEqual([3, 2, 0, 16]);
  expect(pastDims('past_sliding_length', { headSize: 16, slidingWindow: 12 })).toEqual([3, 2, 12, 16]);
  expect(pastDims('past_sliding_length')).toEqual([3, 2, 0, 8]);
});
