import type { TensorOps } from '../onnx/tensor-ops.js';
import { sameDims, type Value } from '../onnx/value.js';
import type { Cotangent, WindowCotangent } from './gradient-rule.js';

/**
 * Adds up all cotangents of one value: undoes broadcasting in both directions and joins windows.
 * Returns undefined when there are none. The result has exactly `dims`.
 */
export function sumCotangents(
  o: TensorOps,
  cotangents: readonly Cotangent[],
  dims: readonly number[],
): Value | undefined {
  const complete: Value[] = [];
  const windows: WindowCotangent[] = [];
  for (const cotangent of cotangents) {
    if ('name' in cotangent) complete.push(sumToDims(o, cotangent, dims));
    else if ('window' in cotangent) windows.push(cotangent);
    else windows.push(...cotangent);
  }
  const terms = [...complete, ...joinWindows(o, windows, dims)];
  const sum = terms.length === 0 ? undefined : terms.reduce((left, right) => o.add(left, right));
  return sum && o.expand(sum, dims);
}

/** Sums over the axes along which the value was broadcast; axes of size 1 in the cotangent remain so. */
function sumToDims(o: TensorOps, cotangent: Value, dims: readonly number[]): Value {
  const extra = cotangent.dims.length - dims.length;
  if (extra < 0 || sameDims(cotangent.dims, dims)) return cotangent;
  const repeated = cotangent.dims.flatMap((dim, axis) =>
    axis < extra || (dims[axis - extra] === 1 && dim !== 1) ? [axis] : [],
  );
  const summedDims = cotangent.dims.slice(extra).map((dim, axis) => (dims[axis] === 1 ? 1 : dim));
  return o.reshape(o.sum(cotangent, repeated, true), summedDims);
}

/** Windows of one axis that do not overlap are concatenated; others are padded one by one. */
function joinWindows(o: TensorOps, windows: readonly WindowCotangent[], dims: readonly number[]): Value[] {
  const axes = new Set(windows.map(({ axis }) => axis));
  return [...axes].flatMap((axis) => {
    const sorted = windows.filter((window) => window.axis === axis).sort((a, b) => a.start - b.start);
    const overlap = sorted.some((window, at) => at > 0 && window.start < endOf(sorted[at - 1]));
    const groups = overlap ? sorted.map((window) => [window]) : [sorted];
    return groups.map((group) => fillGaps(o, group, dims));
  });
}

function endOf(window: WindowCotangent | undefined): number {
  return window === undefined ? 0 : window.start + (window.window.dims[window.axis] ?? 0);
}

function fillGaps(o: TensorOps, windows: readonly WindowCotangent[], dims: readonly number[]): Value {
  const [first] = windows;
  if (first === undefined) return o.zeros(dims, 1);
  const { axis } = first;
  const length = dims[axis] ?? 0;
  if (windows.length === 1) return o.pad(first.window, axis, { before: first.start, after: length - endOf(first) });
  const zeros = (count: number): Value[] =>
    count > 0 ? [o.zeros(first.window.dims.with(axis, count), first.window.dataType)] : [];
  const parts = windows.flatMap((window, at) => [...zeros(window.start - endOf(windows[at - 1])), window.window]);
  return o.concat([...parts, ...zeros(length - endOf(windows.at(-1)))], axis);
}
