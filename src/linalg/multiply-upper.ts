import { freeBytes } from '../free-bytes.js';
import { copyBlock, writeBlock } from './matrix-block.js';
import type { MultiplyTransposed } from './multiply-transposed.js';

/** Rows that are multiplied together. */
const STRIP = 512;

export interface UpperProduct {
  readonly size: number;
  /** Rows of `right`. */
  readonly columns: number;
  readonly multiply: MultiplyTransposed;
}

/**
 * `upper · rightᵀ`, `[size, columns]`, where row i of the upper triangular matrix is zero in front of column i. Most of those zeros are not
 * multiplied, which takes about half the products.
 * @param upper `[size, size]` row-major. @param right `[columns, size]` row-major.
 */
export async function multiplyUpper(
  upper: Float64Array,
  right: Float64Array,
  { size, columns, multiply }: UpperProduct,
): Promise<Float64Array> {
  const product = new Float64Array(size * columns);
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
 * Multiplies an upper triangular matrix by its transpose in place: `Y Yᵀ` on and below the diagonal, what is above it is undefined.
 * @param upper `Y`, `[size, size]` row-major; what is below the diagonal is zero.
 */
export async function multiplyUpperInPlace(
  upper: Float64Array,
  { size, multiply }: Omit<UpperProduct, 'columns'>,
): Promise<void> {
  for (let top = 0; top < size; top += STRIP) {
    const bottom = Math.min(size, top + STRIP);
    // Columns before the strip are zero in its rows. Later strips read only the columns behind it, so that results may lie here.
    const right = copyBlock(upper, size, { rowStart: 0, rowEnd: bottom, columnStart: top, columnEnd: size });
    const inner = size - top;
    const values = await multiply(right.subarray(top * inner), right, { rows: bottom - top, columns: bottom, inner });
    const block = { rowStart: top, rowEnd: bottom, columnStart: 0, columnEnd: bottom };
    writeBlock(upper, size, { block, values });
    freeBytes(right, values);
  }
}
