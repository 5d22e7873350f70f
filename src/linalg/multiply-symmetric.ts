import { freeBytes } from '../free-bytes.js';
import { copyBlock, subtractFromBlock } from './matrix-block.js';
import type { MultiplyTransposed } from './multiply-transposed.js';

/** Rows of a product that are computed at once. */
const STRIP = 512;
/** Rows and columns that are mirrored together, so that both sides stay in the cache. */
const TILE = 32;

/** A product `rows · rowsᵀ`. */
export interface SymmetricProduct {
  readonly size: number;
  readonly inner: number;
  readonly multiply: MultiplyTransposed;
}

/**
 * `rows · rowsᵀ`, `[size, size]`. Of a large one only what is below the diagonal is computed.
 * @param rows `[size, inner]` row-major.
 */
export async function multiplySymmetric(rows: Float64Array, product: SymmetricProduct): Promise<Float64Array> {
  const { size } = product;
  const matrix = new Float64Array(size * size);
  for await (const { top, bottom, values } of lowerStrips(rows, product)) {
    for (let row = top; row < bottom; row++)
      matrix.set(values.subarray((row - top) * bottom, (row - top + 1) * bottom), row * size);
  }
  mirrorLower(matrix, size);
  return matrix;
}

/**
 * Multiplies an upper triangular matrix by its transpose in place: `Y Yᵀ` on and below the diagonal, what is above it is undefined.
 * @param upper `Y`, `[size, size]` row-major; what is below the diagonal is zero.
 */
export async function multiplyUpperInPlace(
  upper: Float64Array,
  { size, multiply }: Omit<SymmetricProduct, 'inner'>,
): Promise<void> {
  for (let top = 0; top < size; top += STRIP) {
    const bottom = Math.min(size, top + STRIP);
    // Columns before the strip are zero in its rows. Later strips read the columns behind it alone, so that results may lie here.
    const right = copyBlock(upper, size, { rowStart: 0, rowEnd: bottom, columnStart: top, columnEnd: size });
    const inner = size - top;
    const values = await multiply(right.subarray(top * inner), right, { rows: bottom - top, columns: bottom, inner });
    for (let row = top; row < bottom; row++)
      upper.set(values.subarray((row - top) * bottom, (row - top + 1) * bottom), row * size);
    freeBytes(right, values);
  }
}

/** A square on the diagonal of a matrix with `size` columns, and the product that is taken from it. */
export interface SymmetricUpdate extends SymmetricProduct {
  readonly start: number;
  readonly end: number;
}

/**
 * Subtracts `rows · rowsᵀ` from a square on the diagonal of a matrix. What is above the diagonal is not made to agree.
 * @param rows `[end - start, inner]` row-major.
 */
export async function subtractSymmetric(matrix: Float64Array, rows: Float64Array, update: SymmetricUpdate) {
  const { size, start, end, ...product } = update;
  for await (const { top, bottom, values } of lowerStrips(rows, { ...product, size: end - start })) {
    const block = { rowStart: start + top, rowEnd: start + bottom, columnStart: start, columnEnd: start + bottom };
    subtractFromBlock(matrix, size, { block, values });
  }
}

/** Gives what is above the diagonal of a square matrix what is below it. */
export function mirrorLower(matrix: Float64Array, size: number): void {
  for (let top = 0; top < size; top += TILE) {
    const bottom = Math.min(size, top + TILE);
    for (let left = 0; left <= top; left += TILE) {
      for (let column = left; column < Math.min(bottom, left + TILE); column++)
        for (let row = Math.max(top, column + 1); row < bottom; row++)
          matrix[column * size + row] = matrix[row * size + column]!;
    }
  }
}

/** Rows `[top, bottom)` of a product, up to the column `bottom`: row-major, and freed when the next ones are asked for. */
interface LowerStrip {
  readonly top: number;
  readonly bottom: number;
  readonly values: Float64Array;
}

async function* lowerStrips(
  rows: Float64Array,
  { size, inner, multiply }: SymmetricProduct,
): AsyncGenerator<LowerStrip> {
  for (let top = 0; top < size; top += STRIP) {
    const bottom = Math.min(size, top + STRIP);
    const right = rows.subarray(0, bottom * inner);
    const values = await multiply(right.subarray(top * inner), right, { rows: bottom - top, columns: bottom, inner });
    yield { top, bottom, values };
    freeBytes(values);
  }
}
