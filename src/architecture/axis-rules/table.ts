import {
  groupQueryAttention,
  multiHeadAttention,
  onnxAttention,
  packedAttention,
  rotaryEmbedding,
} from './attention.js';
import { type AxisRule, NOTHING } from './axis-rule.js';
import { CONTRIB_ELEMENTWISE_OPS, ELEMENTWISE_OPS, elementwise } from './elementwise.js';
import { einsum, gemm, matMul } from './linear.js';
import {
  concat,
  expand,
  gather,
  gatherNd,
  reshape,
  slice,
  split,
  squeeze,
  tile,
  transpose,
  unsqueeze,
} from './movement.js';
import { normaliseLast, reduce } from './normalisation.js';

const all = (ops: readonly string[], rule: AxisRule): Record<string, AxisRule> =>
  Object.fromEntries(ops.map((op) => [op, rule]));

/** How channels travel through each operator, by qualified name. A new operator is a new row. */
export const AXIS_RULES: Readonly<Record<string, AxisRule>> = {
  ...all(ELEMENTWISE_OPS, elementwise),
  ...all(
    CONTRIB_ELEMENTWISE_OPS.map((op) => `com.microsoft.${op}`),
    elementwise,
  ),
  MatMul: matMul,
  'com.microsoft.FusedMatMul': matMul,
  Gemm: gemm,
  Einsum: einsum,
  Transpose: transpose,
  Reshape: reshape,
  Flatten: reshape,
  Expand: expand,
  Tile: tile,
  Unsqueeze: unsqueeze,
  Squeeze: squeeze,
  Concat: concat,
  Split: split,
  Slice: slice,
  Gather: gather,
  GatherND: gatherNd,
  Shape: () => NOTHING,
  Size: () => NOTHING,
  ...all(
    ['Softmax', 'LogSoftmax', 'LayerNormalization', 'SimplifiedLayerNormalization', 'RMSNormalization'],
    normaliseLast,
  ),
  ...all(['ReduceMean', 'ReduceSum', 'ReduceMax', 'ReduceMin', 'ReduceL2', 'ReduceSumSquare'], reduce),
  'com.microsoft.GroupQueryAttention': groupQueryAttention,
  'com.microsoft.MultiHeadAttention': multiHeadAttention,
  'com.microsoft.Attention': packedAttention,
  Attention: onnxAttention,
  RotaryEmbedding: rotaryEmbedding,
  'com.microsoft.RotaryEmbedding': rotaryEmbedding,
  'com.microsoft.MRotaryEmbedding': rotaryEmbedding,
};

/** Operators that mix tokens in another way than attention does. */
export const MIXER_OPS: ReadonlySet<string> = new Set([
  'com.microsoft.CausalConvWithState',
  'com.microsoft.LinearAttention',
  ...['CausalConvWithState', 'LinearAttention', 'Conv', 'GRU', 'LSTM', 'RNN'],
]);

/** Operators that mix tokens, by which an attention is told from an FFN. */
export const ATTENTION_OPS: ReadonlySet<string> = new Set([
  'Softmax',
  'Attention',
  'com.microsoft.GroupQueryAttention',
  'com.microsoft.MultiHeadAttention',
  'com.microsoft.Attention',
  'com.microsoft.PagedAttention',
  'com.microsoft.SparseAttention',
]);
