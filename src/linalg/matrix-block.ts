import type { NdArray } from 'ndarray';
import type { Entries } from './multiply-transposed.js';

/** A rectangle of a row-major matrix: rows `[rowStart, rowEnd)`, columns `[columnStart, columnEnd)`. */
export interface MatrixBlock {
  readonly rowStart: number;
  readonly rowEnd: number;
  readonly columnStart: number;
  readonly columnEnd: number;
}

/** Copies a rectangle of a row-major matrix with `columnCount` columns into a new dense array. */
export function copyBlock<Matrix extends Entries>(matrix: Matrix, columnCount: number, block: MatrixBlock): Matrix {
  const { rowStart, rowEnd, columnStart, columnEnd } = block;
  const width = columnEnd - columnStart;
  const copy = zerosLike(matrix, (rowEnd - rowStart) * width);
  for (let row = rowStart; row < rowEnd; row++) {
    const from = row * columnCount;
    copy.set(matrix.subarray(from + columnStart, from + columnEnd), (row - rowStart) * width);
  }
  return copy;
}

/** Zeros in the precision of another matrix. */
export const zerosLike = <Matrix extends Entries>(matrix: Matrix, length: number): Matrix =>
  (matrix instanceof Float32Array ? new Float32Array(length) : new Float64Array(length)) as Entries as Matrix;

/** A matrix in the precision of another one; not copied if it already has it. */
export const roundedLike = <Matrix extends Entries>(like: Matrix, matrix: Float64Array): Matrix =>
  (like instanceof Float32Array ? new Float32Array(matrix) : matrix) as Entries as Matrix;

/** Subtracts the dense `values` from a rectangle of a row-major matrix with `columnCount` columns. */
export function subtractFromBlock(
  matrix: Entries,
  columnCount: number,
  { block, values }: { readonly block: MatrixBlock; readonly values: Entries },
): void {
  const { rowStart, rowEnd, columnStart, columnEnd } = block;
  let at = 0;
  for (let row = rowStart; row < rowEnd; row++) {
    const from = row * columnCount;
    for (let column = columnStart; column < columnEnd; column++) matrix[from + column]! -= values[at++]!;
  }
}

/** Writes the dense `values` into a rectangle of a row-major matrix with `columnCount` columns. */
export function writeBlock(
  matrix: Entries,
  columnCount: number,
  { block, values }: { readonly block: MatrixBlock; readonly values: Entries },
): void {
  const { rowStart, rowEnd, columnStart, columnEnd } = block;
  const width = columnEnd - columnStart;
  for (let row = rowStart, from = 0; row < rowEnd; row++, from += width)
    matrix.set(values.subarray(from, from + width), row * columnCount + columnStart);
}

/** Rows `rows` and columns `columns` of a row-major matrix with `columnCount` columns, dense. */
export function pickSubmatrix(
  matrix: Float64Array,
  columnCount: number,
  { rows, columns }: { readonly rows: ArrayLike<number>; readonly columns: ArrayLike<number> },
): Float64Array {
  const picked = new Float64Array(rows.length * columns.length);
  let at = 0;
  for (let row = 0; row < rows.length; row++) {
    const from = rows[row]! * columnCount;
    for (let column = 0; column < columns.length; column++) picked[at++] = matrix[from + columns[column]!]!;
  }
  return picked;
}

/** Copies columns of a matrix to `target`, dense and row-major; returns it. */
export function copyColumns<T extends Float32Array | Float64Array>(
  {
    data,
    offset,
    shape: [rowCount = 0],
    stride: [rowStride = 0, columnStride = 0],
  }: Pick<NdArray<Float32Array>, 'data' | 'offset' | 'shape' | 'stride'>,
  columns: ArrayLike<number>,
  target: T,
): T {
  let at = 0;
  for (let row = 0; row < rowCount; row++) {
    const start = offset + row * rowStride;
    for (let i = 0; i < columns.length; i++) target[at++] = data[start + columns[i]! * columnStride]!;
  }
  return target;
}

/** Copies rows of a row-major matrix with `columnCount` columns. */
export function pickRows(matrix: Entries, columnCount: number, rows: Int32Array): Float64Array {
  const picked = new Float64Array(rows.length * columnCount);
  rows.forEach((row, at) => {
    picked.set(matrix.subarray(row * columnCount, (row + 1) * columnCount), at * columnCount);
  });
  return picked;
}

/** Position of the first entry that is NaN or infinite; -1 when there is none. */
export function findNonFinite(values: ArrayLike<number>): number {
  for (let at = 0; at < values.length; at++) if (!Number.isFinite(values[at])) return at;
  return -1;
}

/** Squared length of each row of a row-major matrix. */
export function squaredRowNorms(matrix: Entries, columnCount: number): Float64Array {
  const norms = new Float64Array(matrix.length / columnCount);
  for (let row = 0, at = 0; row < norms.length; row++) {
    let sum = 0;
    for (const end = at + columnCount; at < end; at++) sum += matrix[at]! * matrix[at]!;
    norms[row] = sum;
  }
  return norms;
}

/** Rows and columns that are transposed together, so that both sides stay in the cache. */
const TILE = 32;

type Values = Float32Array | Float64Array | Uint8Array | Uint16Array | Uint32Array;

/** `[rows, columns]` to `[columns, rows]`. */
export function transposeMatrix<Matrix extends Values>(matrix: Matrix, rows: number, columns: number): Matrix {
  const transposed = matrix.slice() as Matrix;
  copyTransposed({ values: matrix, width: columns }, { values: transposed, width: rows }, [rows, columns]);
  return transposed;
}

/** Position of a rectangle in a row-major matrix. */
export interface RectanglePlace<Matrix> {
  readonly values: Matrix;
  /** Columns of the matrix. */
  readonly width: number;
  /** Of the rectangle's first number. Default 0. */
  readonly start?: number;
}

/** Copies a rectangle of `rows` and `columns`, transposed, to another position. */
export function copyTransposed<Matrix extends Values>(
  { values: from, width: fromWidth, start: fromStart = 0 }: RectanglePlace<Matrix>,
  { values: to, width: toWidth, start: toStart = 0 }: RectanglePlace<Matrix>,
  [rows, columns]: readonly [number, number],
): void {
  for (let top = 0; top < rows; top += TILE) {
    for (let left = 0; left < columns; left += TILE) {
      const [bottom, right] = [Math.min(rows, top + TILE), Math.min(columns, left + TILE)];
      for (let row = top; row < bottom; row += 1) {
        const start = fromStart + row * fromWidth;
        for (let column = left; column < right; column += 1)
          to[toStart + column * toWidth + row] = from[start + column]!;
      }
    }
  }
}
