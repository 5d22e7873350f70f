import { findTypicalTokens } from '../../src/grouping/find-typical-tokens.js';

it('finds the tokens nearest to each centre, nearest first', () => {
  const points = Float64Array.of(0, 3, 1, 10, 12, 11, -1);
  const found = findTypicalTokens({
    points,
    dimensionCount: 1,
    centers: Float64Array.of(0, 11, 50),
    contextOfToken: Int32Array.of(0, 0, 0, 1, 1, 1, 0),
    count: 3,
  });
  expect(found.map((tokens) => [...tokens])).toEqual([[0, 2, 6], [5, 3, 4], []]);
});

it('measures distances over all dimensions', () => {
  const found = findTypicalTokens({
    points: Float64Array.of(1, 5, 2, 2, 0, 4),
    dimensionCount: 2,
    centers: Float64Array.of(1, 3),
    contextOfToken: Int32Array.of(0, 0, 0),
    count: 2,
  });
  expect(found.map((tokens) => [...tokens])).toEqual([[1, 2]]);
});
