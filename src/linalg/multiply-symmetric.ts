import { freeBytes } from '../free-bytes.js';
import { subtractFromBlock, writeBlock, zerosLike } from './matrix-block.js';
import type { Entries, MultiplyTransposed } from './multiply-transposed.js';

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
 * `rows · rowsᵀ`, `[size, size]`. Only the lower triangle of a large product is computed.
 * @param rows `[size, inner]` row-major.
 */
export async function multiplySymmetric<Matrix extends Entries>(
  rows: Matrix,
  product: SymmetricProduct,
): Promise<Matrix> {
  const { size } = product;
  const matrix = zerosLike(rows, size * size);
  for await (const { top, bottom, values } of lowerStrips(rows, product)) {
    const block = { rowStart: top, rowEnd: bottom, columnStart: 0, columnEnd: bottom };
    writeBlock(matrix, size, { block, values });
  }
  mirrorLower(matrix, size);
  return matrix;
}

/** A diagonal block of a matrix with `size` columns, and the product to subtract. */
export interface SymmetricUpdate extends SymmetricProduct {
  readonly start: number;
  readonly end: number;
}

/**
 * Subtracts `rows · rowsᵀ` from a square on the diagonal of a matrix. The upper triangle is not updated.
 * @param rows `[end - start, inner]` row-major.
 */
export async function subtractSymmetric(matrix: Entries, rows: Entries, update: SymmetricUpdate) {
  const { size, start, end, ...product } = update;
  for await (const { top, bottom, values } of lowerStrips(rows, { ...product, size: end - start })) {
    const block = { rowStart: start + top, rowEnd: start + bottom, columnStart: start, columnEnd: start + bottom };
    subtractFromBlock(matrix, size, { block, values });
  }
}

/** Copies the lower triangle of a square matrix to the upper one. */
export function mirrorLower(matrix: Entries, size: number): void {
  for (let top = 0; top < size; top += TILE) {
    const bottom = Math.min(size, top + TILE);
    for (let left = 0; left <= top; left += TILE) {
      for (let column = left; column < Math.min(bottom, left + TILE); column++)
        for (let row = Math.max(top, column + 1); row < bottom; row++)
          matrix[column * size + row] = matrix[row * size + column]!;
    }
  }
}

/** Rows `[top, bottom)` of a product, up to the column `bottom`: row-major, and freed when the next ones are requested. */
interface LowerStrip {
  readonly top: number;
  readonly bottom: number;
  readonly values: Entries;
}

async function* lowerStrips(rows: Entries, { size, inner, multiply }: SymmetricProduct): AsyncGenerator<LowerStrip> {
  for (let top = 0; top < size; top += STRIP) {
    const bottom = Math.min(size, top + STRIP);
    const right = rows.subarray(0, bottom * inner);
    const values = await multiply(right.subarray(top * inner), right, { rows: bottom - top, columns: bottom, inner });
    yield { top, bottom, values };
    freeBytes(values);
  }
}
