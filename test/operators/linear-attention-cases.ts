import type { NodeSpec } from '../../src/onnx/build.js';
import type { GradientCase, RandomTensor } from '../support/gradient-check.js';

type Attributes = NonNullable<NodeSpec['attributes']>;

const BATCH = 2;
const KEY_SIZE = 4;
const VALUE_SIZE = 2;

interface Recurrence {
  readonly rule: 'linear' | 'gated' | 'delta' | 'gated_delta';
  /** Heads of query, key and value. */
  readonly heads: readonly [number, number, number];
  readonly length?: number;
  /** Decay of each row of the state. */
  readonly byRow?: boolean;
  /** One update rate for all heads. */
  readonly sharedRate?: boolean;
  readonly past?: boolean;
  readonly attributes?: Attributes;
}

function recurrence(form: Recurrence): GradientCase {
  const { rule, heads, length = 3, byRow = false, sharedRate = false, past = false } = form;
  const [queryHeads, keyHeads, valueHeads] = heads;
  const hasDecay = rule.startsWith('gated');
  const hasRate = rule.endsWith('delta');
  const state = [BATCH, valueHeads, KEY_SIZE, VALUE_SIZE];
  const sized = (width: number, from = -1, to = 1): RandomTensor => ({ dims: [BATCH, length, width], from, to });
  return {
    nodes: [
      {
        op: 'LinearAttention',
        domain: 'com.microsoft',
        inputs: ['q', 'k', 'v', past ? 'past' : '', hasDecay ? 'decay' : '', hasRate ? 'rate' : ''],
        outputs: ['y', 'present'],
        attributes: {
          q_num_heads: queryHeads,
          kv_num_heads: valueHeads,
          update_rule: rule,
          ...form.attributes,
        },
      },
    ],
    inputs: {
      q: sized(queryHeads * KEY_SIZE),
      k: sized(keyHeads * KEY_SIZE, -0.7, 0.7),
      v: sized(valueHeads * VALUE_SIZE),
      ...(past && { past: { dims: state } }),
      ...(hasDecay && { decay: sized(valueHeads * (byRow ? KEY_SIZE : 1), -2, 0) }),
      ...(hasRate && { rate: sized(sharedRate ? 1 : valueHeads, 0, 1) }),
    },
    outputs: ['y'],
    precision: 'float32',
  };
}

const fused = (
  op: string,
  inputs: Readonly<Record<string, readonly number[]>>,
  more: { readonly attributes?: Attributes; readonly outputs?: readonly string[] } = {},
): GradientCase => {
  const { attributes = {}, outputs = ['y'] } = more;
  return {
    nodes: [{ op, domain: 'com.microsoft', inputs: Object.keys(inputs), outputs, attributes }],
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, dims]) => [name, { dims }])),
    outputs,
    precision: 'float32',
  };
};

/** Checks of linear attention and of what is fused around it, by operator. */
export const LINEAR_ATTENTION_CASES: Readonly<Record<string, readonly GradientCase[]>> = {
  'com.microsoft.LinearAttention': [
    recurrence({ rule: 'linear', heads: [2, 2, 2] }),
    recurrence({ rule: 'gated', heads: [2, 2, 2], past: true }),
    recurrence({ rule: 'delta', heads: [2, 2, 2] }),
    recurrence({ rule: 'gated_delta', heads: [2, 2, 4], past: true, attributes: { scale: { float: 0.7 } } }),
    recurrence({ rule: 'gated_delta', heads: [2, 2, 2], sharedRate: true }),
    recurrence({ rule: 'gated_delta', heads: [4, 2, 2], past: true }),
    recurrence({ rule: 'gated_delta', heads: [4, 2, 4] }),
    recurrence({ rule: 'gated_delta', heads: [1, 1, 2] }),
    recurrence({ rule: 'gated', heads: [2, 2, 2], byRow: true, past: true }),
    // Several chunks, the last of them not full.
    recurrence({ rule: 'gated_delta', heads: [1, 1, 1], length: 37 }),
    recurrence({ rule: 'gated_delta', heads: [1, 1, 1], length: 11, byRow: true }),
  ],
  'com.microsoft.LinearAttentionGate': [
    fused(
      'LinearAttentionGate',
      { a: [BATCH, 3, 4], bias: [4], scale: [4], b: [BATCH, 3, 4] },
      { outputs: ['y', 'rate'] },
    ),
    fused('LinearAttentionGate', { a: [BATCH, 3, 4], bias: [4], scale: [4] }),
  ],
  'com.microsoft.GatedRMSNorm': [
    fused('GatedRMSNorm', { x: [BATCH, 3, 8], scale: [4], gate: [BATCH, 3, 8] }),
    fused(
      'GatedRMSNorm',
      { x: [BATCH, 3, 4], scale: [4], gate: [BATCH, 3, 4] },
      { attributes: { epsilon: { float: 0.1 } } },
    ),
  ],
  'com.microsoft.GatedAdd': [fused('GatedAdd', { a: [BATCH, 3, 4], b: [BATCH, 3, 4], gate: [BATCH, 3, 1] })],
};
