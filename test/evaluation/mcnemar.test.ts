import { bootstrapMeans, bootstrapTest, percentileInterval } from '../../src/evaluation/bootstrap.js';
import { mcNemarTest } from '../../src/evaluation/mcnemar.js';

describe('mcNemarTest', () => {
  it.each([
    // Two-sided binomial tests, summed from exact binomial coefficients.
    [0, 0, 1],
    [1, 0, 1],
    [0, 6, 0.03125],
    [10, 10, 1],
    [5, 15, 0.04138946533203125],
    [25, 35, 0.2450608330229457],
    [450, 550, 0.00173053608497632],
  ])('of %i against %i is %f', (onlyA, onlyB, expected) => {
    expect(mcNemarTest({ onlyA, onlyB })).toBeCloseTo(expected, 10);
    expect(mcNemarTest({ onlyA: onlyB, onlyB: onlyA })).toBeCloseTo(expected, 10);
  });

  it('is continuous where the approximation begins', () => {
    const exact = mcNemarTest({ onlyA: 460, onlyB: 540 });
    const approximate = mcNemarTest({ onlyA: 460, onlyB: 541 });
    expect(Math.abs(approximate - exact)).toBeLessThan(0.002);
    // Chi-square of 99^2 / 2000 with one degree of freedom.
    expect(mcNemarTest({ onlyA: 950, onlyB: 1050 })).toBeCloseTo(0.02684892, 7);
  });
});

describe('bootstrap', () => {
  it('gives a percentile interval of 1.96 standard errors', () => {
    const values = Float64Array.from({ length: 400 }, (_, at) => at % 2);
    const [means] = bootstrapMeans([values], { resampleCount: 4000, seed: 1 });
    const [low, high] = percentileInterval(means!, 0.95);
    // 1.96 standard errors of 0.5 / 20.
    expect(Math.abs(low - (0.5 - 0.049))).toBeLessThan(0.005);
    expect(Math.abs(high - (0.5 + 0.049))).toBeLessThan(0.005);
    expect(bootstrapTest(means!)).toBe(2 / 4001);
  });

  it('draws the same items for all columns', () => {
    const values = Float64Array.of(3, -1, 4, -1, 5);
    const [one, twice] = bootstrapMeans([values, values.map((value) => 2 * value)], { resampleCount: 50, seed: 2 });
    expect(twice!.map((mean) => mean / 2)).toEqual(one);
  });
});
