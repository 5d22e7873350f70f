import type { LinearWeight } from '../compensation/adapter.js';
import { copyColumns } from '../linalg/matrix-block.js';

/**
 * Sums a weight's columns over its outputs: of squares (`||W_:j||^2`) or of absolute values.
 *
 * @param weight `[out, channelCount]`, any strides.
 * @returns Length `channelCount`.
 */
export function columnSums(weight: LinearWeight, of: 'squares' | 'absolutes'): Float64Array {
  const [rowCount = 0, columnCount = 0] = weight.shape;
  const [rowStride = 0, columnStride = 0] = weight.stride;
  const { data, offset } = weight;
  const sums = new Float64Array(columnCount);
  // The outer loop follows memory order, so that transposed weights do not miss the cache at every step.
  if (rowStride >= columnStride) {
    for (let row = 0; row < rowCount; row++) {
      let at = offset + row * rowStride;
      for (let column = 0; column < columnCount; column++, at += columnStride) {
        const value = data[at]!;
        sums[column]! += of === 'squares' ? value * value : Math.abs(value);
      }
    }
  } else {
    for (let column = 0; column < columnCount; column++) {
      let at = offset + column * columnStride;
      let sum = 0;
      for (let row = 0; row < rowCount; row++, at += rowStride) {
        const value = data[at]!;
        sum += of === 'squares' ? value * value : Math.abs(value);
      }
      sums[column] = sum;
    }
  }
  return sums;
}

/** Copies some columns of a weight into a dense float64 `[out, columns.length]`, row-major. */
export const pickColumns = (weight: LinearWeight, columns: ArrayLike<number>): Float64Array =>
  copyColumns(weight, columns, new Float64Array((weight.shape[0] ?? 0) * columns.length));
