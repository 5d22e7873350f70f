import { freeBytes } from '../free-bytes.js';
import { copyBlock } from './matrix-block.js';
import type { MultiplyTransposed } from './multiply-transposed.js';

/** Rows of the product that are computed at once. */
const BLOCK_ROWS = 1024;
/** Rows and columns that are mirrored together, so that both sides stay in the cache. */
const TILE = 32;

export interface SymmetricProduct {
  readonly size: number;
  readonly inner: number;
  /** Whether row i of a square matrix is zero in front of column i, which need not be multiplied. Default false. */
  readonly isUpper?: boolean;
  readonly multiply: MultiplyTransposed;
}

/**
 * `rows · rowsᵀ`, `[size, size]`. Mirrored parts of a large one are computed once, which takes about half the products.
 * @param rows `[size, inner]` row-major.
 */
export async function multiplySymmetric(
  rows: Float64Array,
  { size, inner, isUpper = false, multiply }: SymmetricProduct,
): Promise<Float64Array> {
  if (size <= BLOCK_ROWS) return multiply(rows, rows, { rows: size, columns: size, inner });
  const product = new Float64Array(size * size);
  for (let start = 0; start < size; start += BLOCK_ROWS) {
    const end = Math.min(size, start + BLOCK_ROWS);
    const columnStart = isUpper ? start : 0;
    const right =
      columnStart === 0
        ? rows.subarray(0, end * inner)
        : copyBlock(rows, inner, { rowStart: 0, rowEnd: end, columnStart, columnEnd: inner });
    const width = inner - columnStart;
    const left = right.subarray(start * width, end * width);
    const values = await multiply(left, right, { rows: end - start, columns: end, inner: width });
    for (let row = start; row < end; row++)
      product.set(values.subarray((row - start) * end, (row - start + 1) * end), row * size);
    // What is a copy alone: the rest is the caller's.
    if (columnStart > 0) freeBytes(right);
    freeBytes(values);
    mirror(product, { size, start, end });
  }
  return product;
}

/** Gives the columns `start` to `end` (exclusive) above these rows what the rows hold. */
function mirror(
  product: Float64Array,
  { size, start, end }: { readonly size: number; readonly start: number; readonly end: number },
): void {
  for (let top = start; top < end; top += TILE) {
    for (let left = 0; left < start; left += TILE) {
      const bottom = Math.min(end, top + TILE);
      for (let column = left; column < left + TILE; column++)
        for (let row = top; row < bottom; row++) product[column * size + row] = product[row * size + column]!;
    }
  }
}
