import { intervalOfDifference, intervalOfMean } from '../../src/evaluation/change-interval.js';
import { createRandom } from '../../src/linalg/random.js';

const windows = (...sums: readonly number[]) => sums.map((sum) => ({ sum, tokenCount: 10 }));

it('is that of Student for windows of one length', () => {
  // Means 1, 2, 3, 4: 2.5 ± 3.1824 * 1.29099 / 2.
  const [low, high] = intervalOfMean(windows(10, 20, 30, 40))!;
  expect(low).toBeCloseTo(2.5 - 2.05426, 4);
  expect(high).toBeCloseTo(2.5 + 2.05426, 4);
});

it('weighs windows by their tokens', () => {
  const [low, high] = intervalOfMean([...windows(10, 20, 30), { sum: 1, tokenCount: 1 }])!;
  expect((low + high) / 2).toBeCloseTo(61 / 31);
});

it('holds the truth in 95 of 100 samples', () => {
  const random = createRandom(3);
  const draw = () => windows(...Array.from({ length: 8 }, () => 10 * (random() + random() + random())));
  const covered = Array.from({ length: 2000 }, draw).filter((sample) => {
    const [low, high] = intervalOfMean(sample)!;
    return low < 1.5 && high > 1.5;
  });
  expect(covered.length / 2000).toBeGreaterThan(0.93);
  expect(covered.length / 2000).toBeLessThan(0.97);
});

it('of a difference is narrow where both go up and down together', () => {
  const [low, high] = intervalOfDifference(windows(10, 50, 90, 20), windows(11, 51, 91, 21))!;
  expect(low).toBeCloseTo(0.1);
  expect(high).toBeCloseTo(0.1);
});

it('is unknown for two windows', () => {
  expect(intervalOfMean(windows(1, 2))).toBeUndefined();
  expect(() => intervalOfDifference(windows(1), windows(1, 2))).toThrow(RangeError);
});
