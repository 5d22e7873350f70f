import { describeRouting, normalisedMutualInformation } from '../../src/report/describe-routing.js';

it.each<[string, number[][], number]>([
  [
    '0 if all contexts have the same routing',
    [
      [2, 6],
      [1, 3],
    ],
    0,
  ],
  [
    '1 if each context has an expert of its own',
    [
      [0, 5],
      [3, 0],
    ],
    1,
  ],
  ['0 for one context', [[4, 2, 9]], 0],
  [
    '0 without tokens',
    [
      [0, 0],
      [0, 0],
    ],
    0,
  ],
  // scikit-learn: normalized_mutual_info_score of the tokens that the table counts.
  [
    'the value of scikit-learn',
    [
      [10, 2, 0],
      [1, 7, 4],
    ],
    0.4133372,
  ],
])('computes the mutual information: %s', (_, rows, expected) => {
  expect(normalisedMutualInformation(rows)).toBeCloseTo(expected, 6);
});

it('is 0 and not below if rounding makes the entropies differ', () => {
  expect(
    normalisedMutualInformation([
      [1, 2],
      [3, 6],
    ]),
  ).toBe(0);
});

it('counts the tokens of each context by expert', () => {
  const tokens = Int32Array.of(10, 2, 0, 1, 7, 4);
  expect(describeRouting({ contexts: { contextCount: 2 }, tokens })).toEqual({
    tokens: [
      [10, 2, 0],
      [1, 7, 4],
    ],
    mutualInformation: 0.4133,
  });
});
