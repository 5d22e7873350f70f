import { describeRouting, normalisedMutualInformation } from '../../src/report/describe-routing.js';

it.each<[string, number[][], number]>([
  [
    'nothing where each context goes everywhere alike',
    [
      [2, 6],
      [1, 3],
    ],
    0,
  ],
  [
    'all where each context has an expert of its own',
    [
      [0, 5],
      [3, 0],
    ],
    1,
  ],
  ['nothing of one context', [[4, 2, 9]], 0],
  [
    'nothing where no token was counted',
    [
      [0, 0],
      [0, 0],
    ],
    0,
  ],
  // scikit-learn: normalized_mutual_info_score of the tokens that the table counts.
  [
    'what scikit-learn finds',
    [
      [10, 2, 0],
      [1, 7, 4],
    ],
    0.4133372,
  ],
])('mutual information: %s', (_, rows, expected) => {
  expect(normalisedMutualInformation(rows)).toBeCloseTo(expected, 6);
});

it('lists the tokens of each context by expert', () => {
  const tokens = Int32Array.of(10, 2, 0, 1, 7, 4);
  expect(describeRouting({ contexts: { contextCount: 2 }, tokens })).toEqual({
    tokens: [
      [10, 2, 0],
      [1, 7, 4],
    ],
    mutualInformation: 0.4133,
  });
});
