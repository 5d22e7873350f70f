import { logitsGap, medianGap } from '../../src/evaluation/compare-logits.js';

const expected = Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8, 10);

it('measures the largest gap, or the median over tokens of the largest', () => {
  // Tokens of two logits are 0, 0, 1, 0.5 and 9 off.
  const actual = Float32Array.of(0, 1, 2, 3, 4, 6, 6, 7.5, 8, 1);
  expect(logitsGap(actual, expected)).toBeCloseTo(0.9);
  expect(medianGap(actual, expected, 2)).toBeCloseTo(0.05);
  expect(medianGap(expected, expected, 2)).toBe(0);
});

it('returns infinity if a logit is NaN', () => {
  const actual = Float32Array.from(expected);
  actual[9] = Number.NaN;
  expect(medianGap(actual, expected, 2)).toBe(Number.POSITIVE_INFINITY);
});
