import { NumericalError, OptionError } from '../../src/errors.js';
import { clusterContexts } from '../../src/grouping/cluster-contexts.js';
import { assignContexts } from '../../src/grouping/refine-centers.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';

/** Clouds of the given sizes around far corners, in order. */
function clouds(sizes: readonly number[], seed = 1): Float64Array {
  const random = createRandom(seed);
  return Float64Array.from(
    sizes
      .flatMap((size, cloud) =>
        Array.from({ length: size }, () =>
          [10 * (cloud % 2), 10 * Math.floor(cloud / 2), 0].map((corner) => corner + drawNormal(random)),
        ),
      )
      .flat(),
  );
}

const plain = { dimensionCount: 3, contextCount: 4, clusterBalance: Number.POSITIVE_INFINITY };

describe('clusterContexts', () => {
  it('finds separate clouds of points', () => {
    const { contextOfToken, counts, contextCount, remarks } = clusterContexts({
      points: clouds([30, 10, 25, 15]),
      ...plain,
    });
    expect(contextCount).toBe(4);
    expect(Array.from(counts).sort((a, b) => a - b)).toEqual([10, 15, 25, 30]);
    expect(new Set(contextOfToken.subarray(0, 30)).size).toBe(1);
    expect(new Set(contextOfToken.subarray(30, 40)).size).toBe(1);
    expect(remarks).toEqual([]);
  });

  it('returns the same result for a seed', () => {
    const points = clouds([40, 40, 40, 40, 40]);
    expect(clusterContexts({ points, dimensionCount: 3, seed: 3 })).toEqual(
      clusterContexts({ points, dimensionCount: 3, seed: 3 }),
    );
  });

  it('keeps cluster sizes within the bounds when balanced', () => {
    const points = clouds([300, 20, 20, 20]);
    expect(Math.max(...clusterContexts({ points, ...plain }).counts)).toBeGreaterThan(126);
    for (const clusterBalance of [0, 0.4, 0.9]) {
      const { counts } = clusterContexts({ points, ...plain, clusterBalance });
      expect(Math.max(...counts)).toBeLessThanOrEqual(Math.ceil(90 * (1 + clusterBalance)));
      expect(Math.min(...counts)).toBeGreaterThanOrEqual(Math.floor(90 * (1 - clusterBalance)));
    }
  });

  it('fits on a sample and assigns every token to its nearest centre', () => {
    const points = clouds([200, 200, 200, 200]);
    const { contextOfToken, counts, centers } = clusterContexts({ points, ...plain, fitCount: 100 });
    expect(contextOfToken).toHaveLength(800);
    expect(Array.from(counts)).toEqual([200, 200, 200, 200]);
    expect(assignContexts(points, centers, 3)).toEqual(contextOfToken);
  });

  it.each([0, 0.4, Number.POSITIVE_INFINITY])(
    'leaves no context empty if tokens are identical, balance %d',
    (clusterBalance) => {
      const points = Float64Array.from({ length: 60 }, (_, at) => (Math.floor(at / 3) % 2 ? 5 : 0));
      const { contextCount, counts, centers, contextOfToken, remarks } = clusterContexts({
        points,
        ...plain,
        clusterBalance,
      });
      expect(counts.every((count) => count > 0)).toBe(true);
      expect(centers.every(Number.isFinite)).toBe(true);
      expect(centers).toHaveLength(3 * contextCount);
      expect(Math.max(...contextOfToken)).toBe(contextCount - 1);
      // Only bounds on the sizes can split equal tokens.
      if (clusterBalance === Number.POSITIVE_INFINITY)
        expect(remarks.join()).toMatch(/only 2 of 4 contexts have a token/);
      else expect(contextCount).toBe(4);
    },
  );

  it('accepts as many contexts as tokens, and a single context', () => {
    expect(clusterContexts({ points: clouds([1, 1, 1, 1]), ...plain }).contextCount).toBe(4);
    expect(clusterContexts({ points: clouds([5]), ...plain, contextCount: 1 }).contextCount).toBe(1);
  });

  it('refuses too few tokens, invalid options and NaN points', () => {
    expect(() => clusterContexts({ points: clouds([3]), ...plain })).toThrow(/3 tokens cannot make 4 contexts/);
    expect(() => clusterContexts({ points: clouds([9]), ...plain, clusterBalance: -1 })).toThrow(OptionError);
    expect(() => clusterContexts({ points: clouds([9]), ...plain, dimensionCount: 4 })).toThrow(OptionError);
    expect(() => clusterContexts({ points: clouds([9]), ...plain, contextCount: 0 })).toThrow(OptionError);
    const damaged = clouds([9]).map((value, at) => (at === 4 ? Number.NaN : value));
    expect(() => clusterContexts({ points: damaged, ...plain })).toThrow(NumericalError);
  });
});
