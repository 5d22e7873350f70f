import { freeBytes } from '../free-bytes.js';
import { copyBlock } from './matrix-block.js';
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
