import type { NodeProto, TensorProto } from 'onnx-buf';
import { makeInt64Initializer, makeNode } from '../onnx/build.js';
import type { StageExtension } from '../runtime/compile-stage.js';
import type { Tensor, Tensors } from '../runtime/engine.js';
import { releaseTensors, retainTensor } from '../runtime/tensor-memory.js';

/** A symmetric product over tokens, computed in the graph and summed over runs. */
export interface GramSum extends Pick<StageExtension, 'nodes' | 'initializers' | 'inputs' | 'outputs'> {
  /** Feeds of the next run. */
  feeds(): Tensors;
  /** Adds one run's results. */
  add(values: Tensors): void;
  /** Returns the mean over the tokens of all runs, `[size, size]` row-major, and resets the sum. */
  finish(tokenCount: number): Float64Array;
}

export interface GramFactors {
  /** Prefix of the names of new values. */
  readonly name: string;
  /** Values with one row per channel, `[size, tokens]`, whose product `left · rightᵀ` is symmetric. */
  readonly left: string;
  readonly right: string;
  readonly size: number;
}

/** More strips hardly save work. */
const STRIP_COUNT = 8;
/** Narrower strips make the matrix product slow. */
const MIN_WIDTH = 128;

/**
 * Runs that are summed in the graph, in single precision, before JavaScript adds their sum in double precision. Adding
 * every run in JavaScript would take as long as the product, and the sum of a few runs is precise enough.
 */
const RUNS_PER_SUM = 4;

/**
 * Nodes for `left · rightᵀ`, in strips of rows from the diagonal to the right edge. The rest follows by symmetry, which
 * saves nearly half the work. All operators are the same in every opset.
 */
export function createGramSum({ name, left, right, size }: GramFactors): GramSum {
  const width = Math.max(MIN_WIDTH, Math.ceil(size / STRIP_COUNT));
  const starts = Array.from({ length: Math.ceil(size / width) }, (_, strip) => strip * width);
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  const rows = (value: string, start: number, end: number, picked: string): string => {
    if (end - start === size) return value;
    const indices = Array.from({ length: end - start }, (_, at) => start + at);
    initializers.push(makeInt64Initializer(`${picked}_rows`, indices));
    nodes.push(
      makeNode({ op: 'Gather', inputs: [value, `${picked}_rows`], outputs: [picked], attributes: { axis: 0 } }),
    );
    return picked;
  };
  const strips = starts.map((start) => {
    const strip = `${name}/${start}`;
    const before = `${strip}/before`;
    const above = rows(left, start, Math.min(size, start + width), `${strip}/left`);
    const rest = rows(right, start, size, `${strip}/right`);
    nodes.push(makeNode({ op: 'Gemm', inputs: [above, rest, before], outputs: [strip], attributes: { transB: 1 } }));
    return { start, strip, before };
  });
  // As large as the weights of a block: allocated for the first run, released with the result.
  let sum: Float64Array | undefined;
  const zero: Tensor = { type: 'float32', dims: [1], data: new Float32Array(1) };
  let partial: Tensors | undefined;
  let runCount = 0;
  const replacePartial = (next: Tensors | undefined): void => {
    releaseTensors(partial ?? {});
    partial = next;
  };
  const addPartial = (): void => {
    if (partial === undefined) return;
    sum ??= new Float64Array(size * size);
    for (const { start, strip } of strips) addStrip(sum, partial[strip]!.data as Float32Array, { start, size });
    replacePartial(undefined);
    runCount = 0;
  };
  return {
    nodes,
    initializers,
    inputs: strips.map(({ before }) => ({ name: before, type: 'float32' })),
    outputs: strips.map(({ strip }) => strip),
    feeds: () => Object.fromEntries(strips.map(({ strip, before }) => [before, partial?.[strip] ?? zero])),
    add(values) {
      const next = Object.fromEntries(strips.map(({ strip }) => [strip, values[strip]!]));
      Object.values(next).forEach(retainTensor);
      replacePartial(next);
      runCount += 1;
      if (runCount === RUNS_PER_SUM) addPartial();
    },
    finish(tokenCount) {
      addPartial();
      const full = sum ?? new Float64Array(size * size);
      sum = undefined;
      for (let at = 0; at < full.length; at += 1) full[at]! /= tokenCount;
      mirrorUpper(full, size);
      return full;
    },
  };
}

interface Strip {
  /** First row, and first column, of the strip. */
  readonly start: number;
  readonly size: number;
}

/** Adds a strip to the upper triangle of a row-major `[size, size]` sum. */
function addStrip(sum: Float64Array, strip: Float32Array, { start, size }: Strip): void {
  const columns = size - start;
  for (let at = 0, row = start; at < strip.length; at += columns, row += 1) {
    const diagonal = row - start;
    for (let i = diagonal; i < columns; i += 1) sum[row * size + start + i]! += strip[at + i]!;
  }
}

/** Rows and columns that are copied together, so that both sides remain in the cache. */
const TILE = 16;

/** Copies the upper triangle of a row-major `[size, size]` matrix to the lower one. */
function mirrorUpper(matrix: Float64Array, size: number): void {
  for (let top = 0; top < size; top += TILE) {
    for (let left = 0; left <= top; left += TILE) {
      for (let row = top; row < Math.min(size, top + TILE); row += 1) {
        for (let column = left, end = Math.min(row, left + TILE); column < end; column += 1)
          matrix[row * size + column] = matrix[column * size + row]!;
      }
    }
  }
}
