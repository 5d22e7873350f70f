import { freeBytes } from '../free-bytes.js';
import { copyBlock, writeBlock, zerosLike } from './matrix-block.js';
import type { Entries, MultiplyTransposed } from './multiply-transposed.js';

/** Rows per product. */
const STRIP = 512;

export interface UpperProduct {
  readonly size: number;
  /** Rows of `right`. */
  readonly columns: number;
  readonly multiply: MultiplyTransposed;
}

/**
 * `upper · rightᵀ`, `[size, columns]`, where row i of the upper triangular matrix is zero before column i. It skips most of
 * those zeros, about half of the products.
 * @param upper `[size, size]` row-major. @param right `[columns, size]` row-major.
 */
export async function multiplyUpper<Matrix extends Entries>(
  upper: Matrix,
  right: Matrix,
  { size, columns, multiply }: UpperProduct,
): Promise<Matrix> {
  const product = zerosLike(upper, size * columns);
  for (let top = 0; top < size; top += STRIP) {
    const bottom = Math.min(size, top + STRIP);
    const inner = { columnStart: top, columnEnd: size };
    const strip = copyBlock(upper, size, { rowStart: top, rowEnd: bottom, ...inner });
    const read = top === 0 ? right : copyBlock(right, size, { rowStart: 0, rowEnd: columns, ...inner });
    const values = await multiply(strip, read, { rows: bottom - top, columns, inner: size - top });
    product.set(values, top * columns);
    freeBytes(strip, values);
    if (top > 0) freeBytes(read);
  }
  return product;
}

/**
 * Multiplies an upper triangular matrix by its transpose in place: `Y Yᵀ` on and below the diagonal; entries above it are
 * undefined.
 * @param upper `Y`, `[size, size]` row-major; entries below the diagonal are zero.
 */
export async function multiplyUpperInPlace(
  upper: Entries,
  { size, multiply }: Omit<UpperProduct, 'columns'>,
): Promise<void> {
  for (let top = 0; top < size; top += STRIP) {
    const bottom = Math.min(size, top + STRIP);
    // Columns before the strip are zero in its rows. Later strips read only the columns after it, so that results can be stored here.
    const right = copyBlock(upper, size, { rowStart: 0, rowEnd: bottom, columnStart: top, columnEnd: size });
    const inner = size - top;
    const values = await multiply(right.subarray(top * inner), right, { rows: bottom - top, columns: bottom, inner });
    const block = { rowStart: top, rowEnd: bottom, columnStart: 0, columnEnd: bottom };
    writeBlock(upper, size, { block, values });
    freeBytes(right, values);
  }
}
