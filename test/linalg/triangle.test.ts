import { packTriangle, triangleLength, unpackTriangle } from '../../src/linalg/triangle.js';

it('packs a symmetric matrix into its lower triangle, and unpacks it with a term added per entry', () => {
  const matrix = [1, 2, 4, 2, 3, 5, 4, 5, 6];
  const packed = packTriangle(3, (row, column) => matrix[row * 3 + column]!);
  expect([...packed]).toEqual([1, 2, 3, 4, 5, 6]);
  expect(packed).toHaveLength(triangleLength(3));
  expect([...unpackTriangle(packed, 3)]).toEqual(matrix);
  const added = unpackTriangle(packed, 3, (row, column) => 10 * row + 10 * column);
  expect([...added]).toEqual([1, 12, 24, 12, 23, 35, 24, 35, 46]);
});
