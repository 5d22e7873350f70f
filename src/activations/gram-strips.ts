import type { NodeProto, TensorProto } from 'onnx-buf';
import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../graph/build.js';
import type { Tensors } from '../runtime/engine.js';

/** A symmetric product that the graph works out in part: strips of rows from the diagonal to the right edge. */
export interface GramStrips {
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  readonly outputs: readonly string[];
  /** Adds one run's result to the upper triangle of a row-major `[size, size]` sum. */
  addTo(sum: Float64Array, values: Tensors): void;
}

export interface GramFactors {
  /** Prefix of the names that are made. */
  readonly name: string;
  /** Values with one row a channel, `[size, tokens]`, whose product `left · rightᵀ` is symmetric. */
  readonly left: string;
  readonly right: string;
  readonly size: number;
}

/** More strips save little of what is left to save. */
const STRIP_COUNT = 8;
/** Narrower strips keep the product's kernel from its best. */
const LEAST_WIDTH = 128;

/** Nodes for `left · rightᵀ` that leave out what symmetry tells: nearly half the work. Only operators whose form is the same in every opset. */
export function createGramStrips({ name, left, right, size }: GramFactors): GramStrips {
  const width = Math.max(LEAST_WIDTH, Math.ceil(size / STRIP_COUNT));
  const starts = Array.from({ length: Math.ceil(size / width) }, (_, strip) => strip * width);
  const nodes: NodeProto[] = [];
  const initializers = [makeFloatInitializer(`${name}/zero`, [1], [0])];
  const rows = (value: string, start: number, end: number, picked: string): string => {
    if (end - start === size) return value;
    const indices = Array.from({ length: end - start }, (_, at) => start + at);
    initializers.push(makeInt64Initializer(`${picked}_rows`, indices));
    nodes.push(
      makeNode({ op: 'Gather', inputs: [value, `${picked}_rows`], outputs: [picked], attributes: { axis: 0 } }),
    );
    return picked;
  };
  const outputs = starts.map((start) => {
    const strip = `${name}/${start}`;
    const above = rows(left, start, Math.min(size, start + width), `${strip}/left`);
    const rest = rows(right, start, size, `${strip}/right`);
    // The third input is optional only since opset 11.
    const inputs = [above, rest, `${name}/zero`];
    nodes.push(makeNode({ op: 'Gemm', inputs, outputs: [strip], attributes: { transB: 1 } }));
    return strip;
  });
  return {
    nodes,
    initializers,
    outputs,
    addTo(sum, values) {
      starts.forEach((start, strip) => {
        const added = values[outputs[strip]!]!.data as Float32Array;
        const columns = size - start;
        for (let at = 0, row = start; at < added.length; at += columns, row += 1) {
          const diagonal = row - start;
          for (let i = diagonal; i < columns; i += 1) sum[row * size + start + i]! += added[at + i]!;
        }
      });
    },
  };
}

/** Copies the upper triangle of a row-major `[size, size]` matrix to the lower one. */
export function mirrorUpper(matrix: Float64Array, size: number): void {
  for (let row = 1; row < size; row += 1) {
    for (let column = 0; column < row; column += 1) matrix[row * size + column] = matrix[column * size + row]!;
  }
}
