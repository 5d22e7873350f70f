import { makeNode } from '../../src/onnx/build.js';

/** An attention of 4 heads over 2 KV heads that resumes from `past_key_values.0.key`, as `mixed`. */
export const cachedAttention = () =>
  makeNode({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: ['qkv', '', '', 'past_key_values.0.key'],
    outputs: ['mixed'],
    attributes: { num_heads: 4, kv_num_heads: 2 },
  });
