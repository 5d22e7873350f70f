import type { TensorOps } from './tensor-ops.js';
import { FLOAT32, type Value } from './value.js';

/** Scaled dot-product attention over heads. Query heads h of KV head k are the G = H / K consecutive ones from k G on. */
export interface AttentionProblem {
  /** `[B, H, S, D]` */
  readonly query: Value;
  /** `[B, K, L, D]` */
  readonly key: Value;
  /** `[B, K, L, D']` */
  readonly value: Value;
  readonly scale: number;
  /** Scores become c tanh(score / c); 0 = as they are. */
  readonly softcap?: number;
  /** Added to the capped scores, each broadcastable to `[B, H, S, L]`. */
  readonly biases: readonly Value[];
  /** `[H]`: a score per head that takes part in the softmax and attends to nothing. */
  readonly sink?: Value | undefined;
}

/** Writes attention out in primitives, so that its gradient follows from theirs; gives `[B, H, S, D']`. */
export function attend(o: TensorOps, problem: AttentionProblem): Value {
  const { query, key, value, biases, sink } = problem;
  const [batch = 1, heads = 1, rows = 1, size = 1] = query.dims;
  const [, kvHeads = 1, columns = 1] = key.dims;
  // The heads of one KV head are stacked below each other: keys and values need no copies and get their sums by the product.
  const stacked = [batch, kvHeads, (heads / kvHeads) * rows];
  const products = o.matMul(o.reshape(query, [...stacked, size]), key, { transB: true, alpha: problem.scale });
  let scores = o.reshape(cap(o, products, problem.softcap ?? 0), [batch, heads, rows, columns]);
  for (const bias of biases) scores = o.add(scores, bias);
  const probabilities = sink === undefined ? o.softmax(scores) : softmaxWithSink(o, scores, sink);
  const mixed = o.matMul(o.reshape(probabilities, [...stacked, columns]), value);
  return o.reshape(mixed, [batch, heads, rows, value.dims.at(-1) ?? 1]);
}

function cap(o: TensorOps, scores: Value, softcap: number): Value {
  return softcap > 0 ? o.mul(o.tanh(o.mul(scores, 1 / softcap)), softcap) : scores;
}

function softmaxWithSink(o: TensorOps, scores: Value, sink: Value): Value {
  const [batch = 1, heads = 1, rows = 1, columns = 0] = scores.dims;
  const column = o.expand(o.reshape(sink, [1, heads, 1, 1]), [batch, heads, rows, 1]);
  return o.slice(o.softmax(o.concat([scores, column], 3)), 3, { start: 0, end: columns });
}

/** `[B, S, H D]` to `[B, H, S, D]`. */
export function splitHeads(o: TensorOps, x: Value, heads: number): Value {
  const [batch = 1, rows = 1, channels = 1] = x.dims;
  return o.transpose(o.reshape(x, [batch, rows, heads, channels / heads]), [0, 2, 1, 3]);
}

/** `[B, H, S, D]` to `[B, S, H D]`. */
export function mergeHeads(o: TensorOps, x: Value): Value {
  const [batch = 1, heads = 1, rows = 1, size = 1] = x.dims;
  return o.reshape(o.transpose(x, [0, 2, 1, 3]), [batch, rows, heads * size]);
}

/** Parts of `x` along `axis` with the given lengths. */
export function splitAxis(
  o: TensorOps,
  x: Value,
  { axis, lengths }: { axis: number; lengths: readonly number[] },
): Value[] {
  let end = 0;
  return lengths.map((length) => {
    end += length;
    return o.slice(x, axis, { start: end - length, end });
  });
}

/**
 * Additive mask `[S, L]` that hides the future, and with a window also the past beyond the last `window` positions before one's own.
 * It is computed from two ranges, so that its size does not add to the model's.
 */
export function causalMask(
  o: TensorOps,
  { rows, columns, window }: { rows: number; columns: number; window?: number },
): Value {
  const key = o.range([1, columns]);
  const future = o.less(o.range([rows, 1]), key);
  const mask = o.additiveMask(future);
  return window === undefined ? mask : o.add(mask, o.additiveMask(o.less(key, o.range([rows, 1], -window))));
}

/** Additive mask from 1 = attend, 0 = do not: 0 or `filter`. */
export function paddingMask(o: TensorOps, attended: Value, filter: number): Value {
  return o.mul(o.sub(1, o.cast(attended, FLOAT32)), filter);
}
