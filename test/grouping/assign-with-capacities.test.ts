import { OptionError } from '../../src/errors.js';
import { assignWithCapacities } from '../../src/grouping/assign-with-capacities.js';
import { createRandom } from '../../src/linalg/random.js';

const costOf = (costs: Float64Array, binCount: number, binOf: ArrayLike<number>) =>
  Array.from(binOf).reduce((sum, bin, item) => sum + costs[item * binCount + bin]!, 0);

/** The least cost of all assignments, by trying each. */
function leastCost(costs: Float64Array, binCount: number, bounds: { minimum: number[]; maximum: number[] }): number {
  const itemCount = costs.length / binCount;
  let least = Number.POSITIVE_INFINITY;
  for (let code = 0; code < binCount ** itemCount; code++) {
    const binOf = Array.from({ length: itemCount }, (_, item) => Math.floor(code / binCount ** item) % binCount);
    const sizes = bounds.minimum.map((_, bin) => binOf.filter((b) => b === bin).length);
    if (sizes.every((size, bin) => size >= bounds.minimum[bin]! && size <= bounds.maximum[bin]!)) {
      least = Math.min(least, costOf(costs, binCount, binOf));
    }
  }
  return least;
}

describe('assignWithCapacities', () => {
  it('is as cheap as the best of all assignments', () => {
    const random = createRandom(6);
    for (let trial = 0; trial < 40; trial++) {
      const costs = Float64Array.from({ length: 7 * 3 }, (_, at) => Math.floor(random() * 6) + (at % 3));
      const bounds =
        trial % 2 ? { minimum: [2, 2, 3], maximum: [2, 2, 3] } : { minimum: [0, 1, 3], maximum: [2, 4, 4] };
      const binOf = assignWithCapacities(costs, 3, bounds);
      const sizes = [0, 1, 2].map((bin) => binOf.filter((b) => b === bin).length);
      sizes.forEach((size, bin) => {
        expect(size).toBeGreaterThanOrEqual(bounds.minimum[bin]!);
        expect(size).toBeLessThanOrEqual(bounds.maximum[bin]!);
      });
      expect(costOf(costs, 3, binOf)).toBeCloseTo(leastCost(costs, 3, bounds), 9);
    }
  });

  it('fills the bins if all costs are equal, or all items prefer one bin', () => {
    const bounds = { minimum: [3, 3, 3], maximum: [3, 3, 3] };
    for (const costs of [new Float64Array(27), Float64Array.from({ length: 27 }, (_, at) => at % 3)]) {
      const binOf = assignWithCapacities(costs, 3, bounds);
      expect([0, 1, 2].map((bin) => binOf.filter((b) => b === bin).length)).toEqual([3, 3, 3]);
    }
  });

  it('refuses bounds that no assignment meets', () => {
    expect(() => assignWithCapacities(new Float64Array(8), 2, { minimum: [0, 0], maximum: [1, 2] })).toThrow(
      OptionError,
    );
    expect(() => assignWithCapacities(new Float64Array(8), 2, { minimum: [3, 2], maximum: [4, 4] })).toThrow(
      OptionError,
    );
    expect(() => assignWithCapacities(new Float64Array(8), 2, { minimum: [3, 0], maximum: [2, 4] })).toThrow(
      OptionError,
    );
  });
});
