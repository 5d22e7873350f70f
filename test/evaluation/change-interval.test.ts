import { intervalOfDifference, intervalOfMean } from '../../src/evaluation/change-interval.js';
import { createRandom } from '../../src/linalg/random.js';

const windows = (...sums: readonly number[]) => sums.map((sum) => ({ sum, tokenCount: 10 }));

it('equals the t interval for windows of equal length', () => {
  // Means 1, 2, 3, 4: 2.5 ± 3.1824 * 1.29099 / 2.
  const [low, high] = intervalOfMean(windows(10, 20, 30, 40))!;
  expect(low).toBeCloseTo(2.5 - 2.05426, 4);
  expect(high).toBeCloseTo(2.5 + 2.05426, 4);
});

it('weights windows by their tokens', () => {
  const [low, high] = intervalOfMean([...windows(10, 20, 30), { sum: 1, tokenCount: 1 }])!;
  expect((low + high) / 2).toBeCloseTo(61 / 31);
});

it('covers the true mean in about 95 % of samples', () => {
  const random = createRandom(3);
  const draw = () => windows(...Array.from({ length: 8 }, () => 10 * (random() + random() + random())));
  const covered = Array.from({ length: 2000 }, draw).filter((sample) => {
    const [low, high] = intervalOfMean(sample)!;
    return low < 1.5 && high > 1.5;
  });
  expect(covered.length / 2000).toBeGreaterThan(0.93);
  expect(covered.length / 2000).toBeLessThan(0.97);
});

it('of a difference is narrow if both vary together', () => {
  const [low, high] = intervalOfDifference(windows(10, 50, 90, 20), windows(11, 51, 91, 21))!;
  expect(low).toBeCloseTo(0.1);
  expect(high).toBeCloseTo(0.1);
});

it('is undefined for two windows, and refuses different numbers of windows', () => {
  expect(intervalOfMean(windows(1, 2))).toBeUndefined();
  expect(() => intervalOfDifference(windows(1), windows(1, 2))).toThrow(RangeError);
});
