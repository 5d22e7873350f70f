import { NumericalError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { copyBlock, copyBlockTransposed, subtractFromBlock } from './matrix-block.js';
import { type MultiplyTransposed, multiplyTransposed } from './multiply-transposed.js';

/** Columns handled at once: small blocks stay in the cache, large ones keep an external `multiply` busy. */
const blockSizeOf = (size: number) => (size > 4096 ? 256 : 64);

/**
 * Factorises a symmetric positive definite matrix, `matrix = L Lᵀ`, overwriting it with `L` (upper triangle zero).
 * Only the lower triangle is read. Blocked, so that nearly all work is in `multiply`.
 *
 * @param matrix `[size, size]`, row-major.
 * @throws NumericalError naming the pivot when the matrix is not positive definite to working precision.
 */
export async function choleskyInPlace(
  matrix: Float64Array,
  size: number,
  multiply: MultiplyTransposed = multiplyTransposed,
): Promise<void> {
  const smallestPivots = Float64Array.from({ length: size }, (_, i) => matrix[i * size + i]! * size * Number.EPSILON);
  const blockSize = blockSizeOf(size);
  for (let start = 0; start < size; start += blockSize) {
    const end = Math.min(size, start + blockSize);
    if (start > 0) {
      const left = copyBlock(matrix, size, { rowStart: start, rowEnd: size, columnStart: 0, columnEnd: start });
      const right = left.subarray(0, (end - start) * start);
      const values = await multiply(left, right, { rows: size - start, columns: end - start, inner: start });
      const block = { rowStart: start, rowEnd: size, columnStart: start, columnEnd: end };
      subtractFromBlock(matrix, size, { block, values });
      freeBytes(left, values);
    }
    factorisePanel(matrix, { size, start, end, smallestPivots });
  }
  for (let row = 0; row < size; row++) matrix.fill(0, row * size + row + 1, (row + 1) * size);
}

/** Factorises the block on the diagonal, and makes what stands below it the factor's rows. */
function factorisePanel(
  matrix: Float64Array,
  { size, start, end, smallestPivots }: { size: number; start: number; end: number; smallestPivots: Float64Array },
): void {
  for (let row = start; row < end; row++) {
    const rowAt = row * size;
    for (let column = start; column < row; column++) {
      const columnAt = column * size;
      let sum = matrix[rowAt + column]!;
      for (let i = start; i < column; i++) sum -= matrix[rowAt + i]! * matrix[columnAt + i]!;
      matrix[rowAt + column] = sum / matrix[columnAt + column]!;
    }
    let pivot = matrix[rowAt + row]!;
    for (let i = start; i < row; i++) pivot -= matrix[rowAt + i]! ** 2;
    // Rounding leaves a pivot of this order where the exact one is zero; dividing by it would amplify noise.
    if (!(pivot > smallestPivots[row]!)) throw notPositiveDefinite(row, size, pivot);
    matrix[rowAt + row] = Math.sqrt(pivot);
  }
  substituteForwards(matrix, matrix, { size, rowStart: end, rowEnd: size, start, end });
}

function notPositiveDefinite(pivot: number, size: number, value: number): NumericalError {
  return new NumericalError(
    `a ${size} x ${size} matrix is not positive definite: pivot ${pivot} is ${value} and must be above zero. Its channel ` +
      'is a combination of others on the calibration tokens, or was never excited: raise the dampening or use more tokens.',
  );
}

/**
 * Inverts a Cholesky factor and transposes the result: row `c` of the answer is column `c` of `L⁻¹`.
 * So `(L Lᵀ)⁻¹ = Y Yᵀ`, and the diagonal of the inverse is each row's sum of squares.
 *
 * @param lower `L`, `[size, size]` row-major.
 * @returns `Y = L⁻ᵀ`, `[size, size]` row-major, upper triangular.
 */
export async function invertFactorTransposed(
  lower: Float64Array,
  size: number,
  multiply: MultiplyTransposed = multiplyTransposed,
): Promise<Float64Array> {
  const inverse = new Float64Array(size * size);
  await invertSpan(inverse, lower, { size, start: 0, end: size, multiply });
  return inverse;
}

interface InvertedSpan {
  readonly size: number;
  readonly start: number;
  readonly end: number;
  readonly multiply: MultiplyTransposed;
}

/** Inverts `[start, end)` of the diagonal by halves: what couples them is `-Y₁ L₂₁ᵀ Y₂`. */
async function invertSpan(inverse: Float64Array, lower: Float64Array, span: InvertedSpan): Promise<void> {
  const { size, start, end, multiply } = span;
  const blockCount = Math.ceil((end - start) / blockSizeOf(size));
  if (blockCount <= 1) {
    for (let row = start; row < end; row++) inverse[row * size + row] = 1;
    substituteForwards(inverse, lower, { size, rowStart: start, rowEnd: end, start, end });
    return;
  }
  const middle = start + Math.ceil(blockCount / 2) * blockSizeOf(size);
  await invertSpan(inverse, lower, { ...span, end: middle });
  await invertSpan(inverse, lower, { ...span, start: middle });
  const [first, second] = [middle - start, end - middle];
  const upper = { rowStart: start, rowEnd: middle, columnStart: start, columnEnd: middle };
  const coupling = { rowStart: middle, rowEnd: end, columnStart: start, columnEnd: middle };
  const last = { rowStart: middle, rowEnd: end, columnStart: middle, columnEnd: end };
  const half = await multiply(copyBlock(inverse, size, upper), copyBlock(lower, size, coupling), {
    rows: first,
    columns: second,
    inner: first,
  });
  const values = await multiply(half, copyBlockTransposed(inverse, size, last), {
    rows: first,
    columns: second,
    inner: second,
  });
  const block = { rowStart: start, rowEnd: middle, columnStart: middle, columnEnd: end };
  subtractFromBlock(inverse, size, { block, values });
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

/** Solves `X L = B` in place, the second half of `solveRowsInPlace`. */
export async function solveOtherHalfInPlace(lower: Float64Array, rows: Float64Array, solve: RowsSolve): Promise<void> {
  const { size } = solve;
  const blockSize = blockSizeOf(size);
  const rowCount = size === 0 ? 0 : rows.length / size;
  for (let start = Math.floor((size - 1) / blockSize) * blockSize; start >= 0; start -= blockSize) {
    const end = Math.min(size, start + blockSize);
    if (end < size) {
      const right = copyBlockTransposed(lower, size, {
        rowStart: end,
        rowEnd: size,
        columnStart: start,
        columnEnd: end,
      });
      await subtractProduct(rows, { ...solve, right, columns: [start, end], inner: [end, size] });
    }
    substituteBackwards(rows, lower, { size, rowStart: 0, rowEnd: rowCount, start, end });
  }
}

/** Solves `X Lᵀ = B` in place, the first half of `solveRowsInPlace`: then `X Xᵀ = B (L Lᵀ)⁻¹ Bᵀ`. */
export async function halfSolveRowsInPlace(lower: Float64Array, rows: Float64Array, solve: RowsSolve): Promise<void> {
  const { size } = solve;
  const blockSize = blockSizeOf(size);
  const rowCount = size === 0 ? 0 : rows.length / size;
  for (let start = 0; start < size; start += blockSize) {
    const end = Math.min(size, start + blockSize);
    if (start > 0) {
      const right = copyBlock(lower, size, { rowStart: start, rowEnd: end, columnStart: 0, columnEnd: start });
      await subtractProduct(rows, { ...solve, right, columns: [start, end], inner: [0, start] });
    }
    substituteForwards(rows, lower, { size, rowStart: 0, rowEnd: rowCount, start, end });
  }
}

interface RowsProduct extends RowsSolve {
  /** `[columns, inner]`. */
  readonly right: Float64Array;
  readonly columns: readonly [number, number];
  readonly inner: readonly [number, number];
}

/** Takes the product of some columns of all rows and `rightᵀ` from other columns. */
async function subtractProduct(rows: Float64Array, { size, multiply, right, ...given }: RowsProduct): Promise<void> {
  const rowCount = rows.length / size;
  const [columnStart, columnEnd] = given.columns;
  const [innerStart, innerEnd] = given.inner;
  const every = { rowStart: 0, rowEnd: rowCount };
  const left = copyBlock(rows, size, { ...every, columnStart: innerStart, columnEnd: innerEnd });
  const shape = { rows: rowCount, columns: columnEnd - columnStart, inner: innerEnd - innerStart };
  const values = await (multiply ?? multiplyTransposed)(left, right, shape);
  subtractFromBlock(rows, size, { block: { ...every, columnStart, columnEnd }, values });
}

/** Rows `[rowStart, rowEnd)`, columns `[start, end)`; both matrices have `size` columns. */
interface Substitution {
  readonly size: number;
  readonly rowStart: number;
  readonly rowEnd: number;
  readonly start: number;
  readonly end: number;
}

/**
 * Four rows at a time, since a single sum would wait for its last term. Where fewer are left, the last one is computed
 * several times, with the same result.
 */
function substituteForwards(rows: Float64Array, lower: Float64Array, given: Substitution): void {
  const { size, rowStart, rowEnd, start, end } = given;
  for (let row = rowStart; row < rowEnd; row += 4) {
    const [a, b, c, d] = fourRows(row, given);
    for (let column = start; column < end; column++) {
      const columnAt = column * size;
      let p = rows[a + column]!;
      let q = rows[b + column]!;
      let r = rows[c + column]!;
      let s = rows[d + column]!;
      for (let i = start; i < column; i++) {
        const factor = lower[columnAt + i]!;
        p -= rows[a + i]! * factor;
        q -= rows[b + i]! * factor;
        r -= rows[c + i]! * factor;
        s -= rows[d + i]! * factor;
      }
      const pivot = lower[columnAt + column]!;
      rows[a + column] = p / pivot;
      rows[b + column] = q / pivot;
      rows[c + column] = r / pivot;
      rows[d + column] = s / pivot;
    }
  }
}

/** As `substituteForwards`. */
function substituteBackwards(rows: Float64Array, lower: Float64Array, given: Substitution): void {
  const { size, rowStart, rowEnd, start, end } = given;
  for (let row = rowStart; row < rowEnd; row += 4) {
    const [a, b, c, d] = fourRows(row, given);
    for (let column = end - 1; column >= start; column--) {
      let p = rows[a + column]!;
      let q = rows[b + column]!;
      let r = rows[c + column]!;
      let s = rows[d + column]!;
      for (let i = column + 1; i < end; i++) {
        const factor = lower[i * size + column]!;
        p -= rows[a + i]! * factor;
        q -= rows[b + i]! * factor;
        r -= rows[c + i]! * factor;
        s -= rows[d + i]! * factor;
      }
      const pivot = lower[column * size + column]!;
      rows[a + column] = p / pivot;
      rows[b + column] = q / pivot;
      rows[c + column] = r / pivot;
      rows[d + column] = s / pivot;
    }
  }
}

/** Where four rows begin, the last one standing in for those there are not. */
function fourRows(row: number, { size, rowEnd }: Substitution): readonly [number, number, number, number] {
  const at = (offset: number) => Math.min(row + offset, rowEnd - 1) * size;
  return [at(0), at(1), at(2), at(3)];
}
