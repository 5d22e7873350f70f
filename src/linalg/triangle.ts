/** Entries of a triangle of a square matrix, its diagonal included. */
export const triangleLength = (size: number): number => (size * (size + 1)) / 2;

/**
 * The lower triangle of a symmetric matrix, row by row: half the memory.
 * @param entry Value of row `i`, column `j <= i`.
 */
export function packTriangle(size: number, entry: (row: number, column: number) => number): Float32Array {
  const packed = new Float32Array(triangleLength(size));
  let at = 0;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column <= row; column++) packed[at++] = entry(row, column);
  }
  return packed;
}

/**
 * The symmetric matrix of a lower triangle, `[size, size]` row-major.
 * @param add Value added to each entry; default 0.
 */
export function unpackTriangle(
  packed: Float32Array,
  size: number,
  add: (row: number, column: number) => number = () => 0,
): Float64Array {
  const matrix = new Float64Array(size * size);
  let at = 0;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column <= row; column++) {
      const value = packed[at++]! + add(row, column);
      matrix[row * size + column] = value;
      matrix[column * size + row] = value;
    }
  }
  return matrix;
}
