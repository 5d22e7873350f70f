import { floatAttribute } from '../onnx/attributes.js';
import { FLOAT32, INT64 } from '../onnx/data-types.js';
import type { TensorOps } from '../onnx/tensor-ops.js';
import type { Value } from '../onnx/value.js';
import { OPEN } from '../onnx/value-facts.js';
import type { LoweringContext } from './gradient-rule.js';

/** Scaled dot-product attention over heads. KV head k serves the G = H / K consecutive query heads from k G on. */
export interface AttentionProblem {
  /** `[B, H, S, D]` */
  readonly query: Value;
  /** `[B, K, L, D]` */
  readonly key: Value;
  /** `[B, K, L, D']` */
  readonly value: Value;
  /** Added to the capped scores, each broadcastable to `[B, H, S, L]`. */
  readonly biases: readonly Value[];
  /** `[H]`: a score per head that takes part in the softmax and attends to nothing. */
  readonly sink?: Value | undefined;
}

/**
 * Lowers attention to primitive operators, with the node's `scale` (default D^(-1/2)) and `softcap` (c tanh(score / c)),
 * for runtimes without its kernel, and for its gradient; returns `[B, H, S, D']`. B, S and L may be open.
 */
export function attend({ node, o }: LoweringContext, { query, key, value, biases, sink }: AttentionProblem): Value {
  const [heads = 1, kvHeads = 1] = [query.dims[1], key.dims[1]];
  // Query heads of one KV head are stacked as rows: keys and values need no copies, and their gradients are summed by the product.
  const stacked = [0, kvHeads, -1, 0];
  const unstacked = [0, heads, -1, 0];
  const alpha = floatAttribute(node, 'scale', 0) || 1 / Math.sqrt(query.dims[3] ?? 1);
  const products = o.matMul(o.regroup(query, stacked), key, { transB: true, alpha });
  let scores = o.regroup(cap(o, products, floatAttribute(node, 'softcap', 0)), unstacked);
  for (const bias of biases) scores = o.add(scores, bias);
  const probabilities = sink === undefined ? o.softmax(scores) : softmaxWithSink(o, scores, { query, sink });
  return o.regroup(o.matMul(o.regroup(probabilities, stacked), value), unstacked);
}

function cap(o: TensorOps, scores: Value, softcap: number): Value {
  return softcap > 0 ? o.mul(o.tanh(o.mul(scores, 1 / softcap)), softcap) : scores;
}

function softmaxWithSink(o: TensorOps, scores: Value, { query, sink }: { query: Value; sink: Value }): Value {
  const [, heads = 1] = query.dims;
  const column = o.expandLike(o.reshape(sink, [1, heads, 1, 1]), o.slice(query, 3, { start: 0, end: 1 }));
  return o.slice(o.softmax(o.append(scores, column, 3)), 3, { start: 0, end: -1 });
}

/** `[B, S, H D]` to `[B, H, S, D]`. */
export const splitHeads = (o: TensorOps, x: Value, heads: number): Value =>
  o.transpose(o.regroup(x, [0, 0, heads, -1]), [0, 2, 1, 3]);

/** `[B, H, S, D]` to `[B, S, H D]`. */
export const mergeHeads = (o: TensorOps, x: Value): Value => o.regroup(o.transpose(x, [0, 2, 1, 3]), [0, 0, -1]);

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

/** Query and key, `[.., S, D]` and `[.., L, D]`. */
export interface QueryAndKey {
  readonly query: Value;
  readonly key: Value;
}

/** Additive mask `[S, L]` that hides the future. It is computed from two ranges instead of stored. */
export function causalMask(o: TensorOps, operands: QueryAndKey): Value {
  const { rows, columns } = positions(o, operands);
  return o.additiveMask(o.less(rows, columns));
}

/** Additive mask `[S, L]` that hides positions before the last `window` ones, the own position included. */
export function windowMask(o: TensorOps, operands: QueryAndKey, window: number): Value {
  const { rows, columns } = positions(o, operands);
  return o.additiveMask(o.less(columns, o.sub(rows, window - 1)));
}

/** Positions of queries `[S, 1]` and of keys `[1, L]`. Where they are open, queries are the last of the keys. */
function positions(o: TensorOps, { query, key }: QueryAndKey): { readonly rows: Value; readonly columns: Value } {
  const [rows = 1, columns = 1] = [query.dims.at(-2), key.dims.at(-2)];
  if (rows !== OPEN && columns !== OPEN) return { rows: o.range([rows, 1]), columns: o.range([1, columns]) };
  const [rowCount, count] = [o.sizeOf(query, -2), o.sizeOf(key, -2)];
  const range = (first: Value) =>
    o.emitter.node('Range', [first, count, o.scalar(1, INT64)], { dims: [OPEN], dataType: INT64 });
  return { rows: o.reshape(range(o.sub(count, rowCount)), [OPEN, 1]), columns: range(o.scalar(0, INT64)) };
}

/** Additive mask from 1 = attend, 0 = do not: 0 or `filter`. */
export function paddingMask(o: TensorOps, attended: Value, filter: number): Value {
  return o.mul(o.sub(1, o.cast(attended, FLOAT32)), filter);
}
