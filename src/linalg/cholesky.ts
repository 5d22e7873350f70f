import { NumericalError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { copyBlock, roundedLike, subtractFromBlock, transposeMatrix, writeBlock } from './matrix-block.js';
import { subtractSymmetric } from './multiply-symmetric.js';
import { type Entries, type MultiplyTransposed, multiplyTransposed } from './multiply-transposed.js';
import { multiplyUpper } from './multiply-upper.js';

/** Columns of the unblocked algorithm. Wider spans are halved recursively, so that nearly all work is in a few large products. */
const BLOCK_SIZE = 128;

/** Columns `[start, end)` of square matrices with `size` columns. */
interface Span {
  readonly size: number;
  readonly start: number;
  readonly end: number;
  readonly multiply: MultiplyTransposed;
}

/** Block boundary at which a span is halved; its end for a single block. */
const middleOf = ({ start, end }: Span): number =>
  Math.min(end, start + BLOCK_SIZE * Math.ceil((end - start) / BLOCK_SIZE / 2));

/**
 * Factorises a symmetric positive definite matrix, `matrix = L Lᵀ`, overwriting it with `L` (upper triangle zero).
 * Only the lower triangle is read. Single precision is enough for a well-conditioned matrix.
 *
 * @param matrix `[size, size]`, row-major.
 * @throws NumericalError naming the pivot when the matrix is not positive definite to working precision.
 */
export async function choleskyInPlace(
  matrix: Entries,
  size: number,
  multiply: MultiplyTransposed = multiplyTransposed,
): Promise<void> {
  const smallestPivots = Float64Array.from({ length: size }, (_, i) => matrix[i * size + i]! * size * Number.EPSILON);
  await factoriseSpan(matrix, { size, start: 0, end: size, multiply, smallestPivots });
  for (let row = 0; row < size; row++) matrix.fill(0, row * size + row + 1, (row + 1) * size);
}

interface FactorisedSpan extends Span {
  readonly smallestPivots: Float64Array;
}

/** Factorises a diagonal block, from which the products of all columns to the left were subtracted. */
async function factoriseSpan(matrix: Entries, span: FactorisedSpan): Promise<void> {
  const { size, start, end, multiply } = span;
  const middle = middleOf(span);
  if (middle === end) return factoriseBlock(matrix, span);
  await factoriseSpan(matrix, { ...span, end: middle });
  await solveForwards(matrix, matrix, { ...span, end: middle, rowStart: middle, rowEnd: end });
  const below = copyBlock(matrix, size, { rowStart: middle, rowEnd: end, columnStart: start, columnEnd: middle });
  await subtractSymmetric(matrix, below, { size, start: middle, end, inner: middle - start, multiply });
  freeBytes(below);
  await factoriseSpan(matrix, { ...span, start: middle });
}

function factoriseBlock(matrix: Entries, { size, start, end, smallestPivots }: FactorisedSpan): void {
  const block = { rowStart: start, rowEnd: end, columnStart: start, columnEnd: end };
  const values = new Float64Array(copyBlock(matrix, size, block));
  const width = end - start;
  for (let row = 0; row < width; row++) {
    const rowAt = row * width;
    for (let column = 0; column < row; column++) {
      const columnAt = column * width;
      let sum = values[rowAt + column]!;
      for (let i = 0; i < column; i++) sum -= values[rowAt + i]! * values[columnAt + i]!;
      values[rowAt + column] = sum / values[columnAt + column]!;
    }
    let pivot = values[rowAt + row]!;
    for (let i = 0; i < row; i++) pivot -= values[rowAt + i]! ** 2;
    // Rounding leaves a pivot of this size where the exact one is zero; dividing by it would amplify noise.
    if (!(pivot > smallestPivots[start + row]!)) throw notPositiveDefinite(start + row, size, pivot);
    values[rowAt + row] = Math.sqrt(pivot);
  }
  writeBlock(matrix, size, { block, values });
}

function notPositiveDefinite(pivot: number, size: number, value: number): NumericalError {
  return new NumericalError(
    `a ${size} x ${size} matrix is not positive definite: pivot ${pivot} is ${value} and must be above zero. Its channel ` +
      'is a combination of others on the calibration tokens, or is zero on all of them: raise the dampening or use more tokens.',
  );
}

/**
 * Inverts a Cholesky factor `L` in place and transposes the result: `Y = L⁻ᵀ`, upper triangular, whose row `c` is column `c` of
 * `L⁻¹`. So `(L Lᵀ)⁻¹ = Y Yᵀ`, and the diagonal of the inverse is each row's sum of squares.
 *
 * @param factor `L`, `[size, size]` row-major; overwritten with `Y`.
 */
export async function invertFactorInPlace(
  factor: Entries,
  size: number,
  multiply: MultiplyTransposed = multiplyTransposed,
): Promise<void> {
  await invertSpan(factor, { size, start: 0, end: size, multiply });
}

/** Inverts a diagonal block by halves: the off-diagonal block is `-Y₁ L₂₁ᵀ Y₂`. */
async function invertSpan(matrix: Entries, span: Span): Promise<void> {
  const { size, start, end, multiply } = span;
  const middle = middleOf(span);
  if (middle === end) return invertBlock(matrix, span);
  await invertSpan(matrix, { ...span, end: middle });
  await invertSpan(matrix, { ...span, start: middle });
  const before = { columnStart: start, columnEnd: middle };
  const first = copyBlock(matrix, size, { rowStart: start, rowEnd: middle, ...before });
  const coupling = copyBlock(matrix, size, { rowStart: middle, rowEnd: end, ...before });
  const half = await multiplyUpper(first, coupling, { size: middle - start, columns: end - middle, multiply });
  freeBytes(first, coupling);
  for (let row = middle; row < end; row++) matrix.fill(0, row * size + start, row * size + middle);
  await subtractUpperRight(matrix, half, { ...span, middle });
  freeBytes(half);
}

function invertBlock(matrix: Entries, span: Span): void {
  const { size, start, end } = span;
  const values = transposeMatrix(invertedBlock(matrix, span), end - start, end - start);
  writeBlock(matrix, size, { block: { rowStart: start, rowEnd: end, columnStart: start, columnEnd: end }, values });
}

interface Halves extends Span {
  readonly middle: number;
}

/** Columns that are multiplied together. */
const STRIP = 512;

/** Subtracts `half Y₂` from the block above `Y₂` in strips of columns, skipping the zeros below. */
async function subtractUpperRight(
  matrix: Entries,
  half: Entries,
  { size, start, middle, end, multiply }: Halves,
): Promise<void> {
  const rows = middle - start;
  for (let left = middle; left < end; left += STRIP) {
    const right = Math.min(end, left + STRIP);
    const [inner, columns] = [right - middle, right - left];
    const block = { rowStart: middle, rowEnd: right, columnStart: left, columnEnd: right };
    const strip = transposeMatrix(copyBlock(matrix, size, block), inner, columns);
    const before = copyBlock(half, end - middle, { rowStart: 0, rowEnd: rows, columnStart: 0, columnEnd: inner });
    const values = await multiply(before, strip, { rows, columns, inner });
    const above = { rowStart: start, rowEnd: middle, columnStart: left, columnEnd: right };
    subtractFromBlock(matrix, size, { block: above, values });
    freeBytes(strip, before, values);
  }
}

interface RowsSolve {
  readonly size: number;
  readonly multiply?: MultiplyTransposed | undefined;
}

/**
 * Solves `X (L Lᵀ) = B` in place for many right-hand sides given as rows.
 *
 * @param lower `L`, `[size, size]` row-major.
 * @param rows `B`, `[rowCount, size]` row-major; overwritten with `X`.
 */
export async function solveRowsInPlace(lower: Float64Array, rows: Float64Array, solve: RowsSolve): Promise<void> {
  await halfSolveRowsInPlace(lower, rows, solve);
  await solveOtherHalfInPlace(lower, rows, solve);
}

/** Solves `X Lᵀ = B` in place, the first half of `solveRowsInPlace`: then `X Xᵀ = B (L Lᵀ)⁻¹ Bᵀ`. */
export async function halfSolveRowsInPlace(lower: Float64Array, rows: Float64Array, solve: RowsSolve): Promise<void> {
  await solveForwards(rows, lower, allRows(rows, solve));
}

/** Solves `X L = B` in place, the second half of `solveRowsInPlace`. */
export async function solveOtherHalfInPlace(lower: Float64Array, rows: Float64Array, solve: RowsSolve): Promise<void> {
  await solveBackwards(rows, lower, allRows(rows, solve));
}

const allRows = (rows: Float64Array, { size, multiply = multiplyTransposed }: RowsSolve): SolvedSpan => ({
  size,
  multiply,
  start: 0,
  end: size,
  rowStart: 0,
  rowEnd: size === 0 ? 0 : rows.length / size,
});

/** Columns of some rows, `[rowStart, rowEnd)`, from which the products of earlier columns were subtracted; rows have `size` columns. */
interface SolvedSpan extends Span {
  readonly rowStart: number;
  readonly rowEnd: number;
}

async function solveForwards(rows: Entries, lower: Entries, span: SolvedSpan): Promise<void> {
  const { size, start, end } = span;
  const middle = middleOf(span);
  if (middle === end) return multiplyColumns(rows, invertedBlock(lower, span), span);
  await solveForwards(rows, lower, { ...span, end: middle });
  const coupling = { rowStart: middle, rowEnd: end, columnStart: start, columnEnd: middle };
  const right = copyBlock(lower, size, coupling);
  await subtractProduct(rows, right, { ...span, columns: [middle, end], inner: [start, middle] });
  await solveForwards(rows, lower, { ...span, start: middle });
}

async function solveBackwards(rows: Float64Array, lower: Float64Array, span: SolvedSpan): Promise<void> {
  const { size, start, end } = span;
  const middle = middleOf(span);
  if (middle === end) {
    const inverse = invertedBlock(lower, span);
    return multiplyColumns(rows, transposeMatrix(inverse, end - start, end - start), span);
  }
  await solveBackwards(rows, lower, { ...span, start: middle });
  const coupling = { rowStart: middle, rowEnd: end, columnStart: start, columnEnd: middle };
  const right = transposeMatrix(copyBlock(lower, size, coupling), end - middle, middle - start);
  await subtractProduct(rows, right, { ...span, columns: [start, middle], inner: [middle, end] });
  await solveBackwards(rows, lower, { ...span, end: middle });
}

interface RowsProduct extends SolvedSpan {
  readonly columns: readonly [number, number];
  readonly inner: readonly [number, number];
}

/** Subtracts the product of some columns of the rows and `rightᵀ` from other columns. @param right `[columns, inner]`, freed */
async function subtractProduct(
  rows: Entries,
  right: Entries,
  { size, rowStart, rowEnd, multiply, ...given }: RowsProduct,
): Promise<void> {
  const [columnStart, columnEnd] = given.columns;
  const [innerStart, innerEnd] = given.inner;
  const left = copyBlock(rows, size, { rowStart, rowEnd, columnStart: innerStart, columnEnd: innerEnd });
  const shape = { rows: rowEnd - rowStart, columns: columnEnd - columnStart, inner: innerEnd - innerStart };
  const values = await multiply(left, right, shape);
  subtractFromBlock(rows, size, { block: { rowStart, rowEnd, columnStart, columnEnd }, values });
  freeBytes(left, right, values);
}

/** Multiplies a block of columns of the rows by `factorᵀ`. */
async function multiplyColumns(
  rows: Entries,
  factor: Float64Array,
  { size, start, end, rowStart, rowEnd, multiply }: SolvedSpan,
): Promise<void> {
  const block = { rowStart, rowEnd, columnStart: start, columnEnd: end };
  const left = copyBlock(rows, size, block);
  const shape = { rows: rowEnd - rowStart, columns: end - start, inner: end - start };
  const values = await multiply(left, roundedLike(left, factor), shape);
  writeBlock(rows, size, { block, values });
  freeBytes(left, values);
}

/**
 * Inverse of a block of `L` on the diagonal, dense: a product with it is as precise as substitution if the block is no
 * worse conditioned than the matrix, and ten times faster.
 */
function invertedBlock(lower: Entries, { size, start, end }: Span): Float64Array {
  const width = end - start;
  const inverse = new Float64Array(width * width);
  for (let row = 0; row < width; row++) {
    const [to, from] = [row * width, (start + row) * size + start];
    const pivot = lower[from + row]!;
    // Row by row: the rows above are done, and are read in order.
    for (let i = 0; i < row; i++) {
      const factor = lower[from + i]!;
      for (let column = 0, above = i * width; column <= i; column++)
        inverse[to + column]! -= factor * inverse[above + column]!;
    }
    for (let column = 0; column < row; column++) inverse[to + column]! /= pivot;
    inverse[to + row] = 1 / pivot;
  }
  return inverse;
}
