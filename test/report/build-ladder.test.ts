import { isParetoOptimal, meanPerplexity } from '../../src/report/build-ladder.js';

const rung = (...rows: readonly (readonly [perplexity: number, windowLength: number])[]) => ({
  perplexities: rows.map(([perplexity, windowLength], at) => ({
    text: `${at}.txt`,
    perplexity,
    protocol: { tokensSha256: `${at}`, windowLength, stride: windowLength, windowCount: 1, tokenCount: 9 },
  })),
});

it('has the geometric mean of perplexities on windows of one length', () => {
  expect(meanPerplexity(rung([4, 512], [9, 512]))).toBeCloseTo(6, 12);
  expect(meanPerplexity(rung([4, 512], [9, 64]))).toBeUndefined();
  expect(meanPerplexity({})).toBeUndefined();
});

it('finds a model optimal unless another one is smaller or better, and in neither worse', () => {
  const point = { bytes: 10, loss: 2 };
  const isOptimal = (bytes: number, loss: number) => isParetoOptimal(point, [point, { bytes, loss }]);
  expect(isOptimal(10, 2)).toBe(true);
  expect(isOptimal(9, 2.1)).toBe(true);
  expect(isOptimal(11, 1.9)).toBe(true);
  expect(isOptimal(9, 2)).toBe(false);
  expect(isOptimal(10, 1.9)).toBe(false);
});
