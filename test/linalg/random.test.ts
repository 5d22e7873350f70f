import { createRandom, drawNormal, drawPermutation } from '../../src/linalg/random.js';

const draws = (seed: number, count: number) => Array.from({ length: count }, createRandom(seed));

describe('createRandom', () => {
  it('returns the same numbers for a seed, and others for other seeds, also above 2^32', () => {
    expect(draws(7, 5)).toEqual(draws(7, 5));
    expect(draws(7, 5)).not.toEqual(draws(8, 5));
    expect(draws(1, 5)).not.toEqual(draws(1 + 2 ** 32, 5));
  });

  it('returns the recorded numbers', () => {
    expect(draws(0, 3).map((value) => Math.round(value * 2 ** 32))).toMatchInlineSnapshot(`
[
  1571333364,
  1793103308,
  1091729759,
]
`);
  });

  it('spreads evenly over [0, 1)', () => {
    const values = draws(1, 20_000);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    for (let decile = 0; decile < 10; decile++) {
      const share = values.filter((value) => Math.floor(value * 10) === decile).length / values.length;
      expect(Math.abs(share - 0.1)).toBeLessThan(0.01);
    }
  });

  it('draws normals of mean 0 and variance 1', () => {
    const random = createRandom(2);
    const values = Array.from({ length: 20_000 }, () => drawNormal(random));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + value * value, 0) / values.length;
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(variance - 1)).toBeLessThan(0.05);
  });

  it('draws permutations that hold every index once', () => {
    const order = drawPermutation(createRandom(3), 100);
    expect(Array.from(order).sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index));
    expect(Array.from(order)).not.toEqual(Array.from({ length: 100 }, (_, index) => index));
  });
});
