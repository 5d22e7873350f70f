import { makeInt64Initializer, makeNode, makeValueInfo } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { encodeGraph } from '../onnx/encode-graph.js';
import type { Engine } from '../runtime/engine.js';

/** Row-major, single precision. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/** Computes `trace(M C Mᵀ)` in the engine. */
export interface QuadraticForm {
  /**
   * @param rowsOf Rows `start` to `end` (exclusive) of the symmetric C, from column `start` on: C is never in memory as
   *   a whole, and only one triangle of it is read.
   */
  trace(matrix: Matrix, rowsOf: (start: number, end: number) => Float32Array<ArrayBuffer>): Promise<number>;
  release(): Promise<void>;
}

/** Rows of C that are multiplied at once, so that a large Gram matrix is not copied entirely. */
const ROWS_AT_ONCE = 1024;

/** Compiles the graph of all products. */
export async function createQuadraticForm(engine: Engine): Promise<QuadraticForm> {
  const session = await engine.load(graphBytes());
  return {
    async trace(matrix, rowsOf) {
      const { rows, columns } = matrix;
      let sum = 0;
      for (let start = 0; start < columns; start += ROWS_AT_ONCE) {
        const end = Math.min(columns, start + ROWS_AT_ONCE);
        const { sums } = await session.run({
          left: { type: 'float32', dims: [rows, end - start], data: columnsOf(matrix, start, end) },
          middle: { type: 'float32', dims: [end - start, columns - start], data: rowsOf(start, end) },
          right: { type: 'float32', dims: [rows, columns - start], data: doubledAfter(matrix, start, end) },
        });
        for (const part of sums!.data as Float32Array) sum += part;
      }
      return sum;
    },
    release: () => session.release(),
  };
}

function columnsOf({ rows, columns, values }: Matrix, start: number, end: number): Float32Array {
  if (end - start === columns) return values;
  const part = new Float32Array(rows * (end - start));
  for (let row = 0; row < rows; row++) {
    part.set(values.subarray(row * columns + start, row * columns + end), row * (end - start));
  }
  return part;
}

/** Columns from `start` on; those from `end` on are doubled, for the other triangle. */
function doubledAfter(matrix: Matrix, start: number, end: number): Float32Array {
  const { rows, columns, values } = matrix;
  if (end - start === columns) return values;
  const part = start === 0 ? values.slice() : columnsOf(matrix, start, columns);
  const width = columns - start;
  for (let row = 0; row < rows; row++)
    for (let at = row * width + end - start; at < (row + 1) * width; at++) part[at]! *= 2;
  return part;
}

/** Row sums of (left middle) * right; JavaScript adds them up in double precision. */
function graphBytes(): Uint8Array {
  return encodeGraph({
    name: 'quadratic-form',
    node: [
      makeNode({ op: 'MatMul', inputs: ['left', 'middle'], outputs: ['product'] }),
      makeNode({ op: 'Mul', inputs: ['product', 'right'], outputs: ['terms'] }),
      makeNode({ op: 'ReduceSum', inputs: ['terms', 'last'], outputs: ['sums'] }),
    ],
    initializer: [makeInt64Initializer('last', [-1])],
    input: ['left', 'middle', 'right'].map((name) => makeValueInfo(name, FLOAT32)),
    output: [makeValueInfo('sums', FLOAT32)],
  });
}
