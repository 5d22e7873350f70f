import { allocateByThreshold, type ThresholdEntry } from '../../src/allocation/global.js';
import { NumericalError, OptionError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';

const rising = (length: number, seed: number): Float64Array =>
  Float64Array.from({ length }, createRandom(seed))
    .sort()
    .map((value) => value * seed);
const entryOf = (costs: ArrayLike<number>, more: Partial<ThresholdEntry> = {}): ThresholdEntry => ({
  costs,
  parametersPerStep: 1,
  parameterCount: costs.length,
  ...more,
});
const costOf = (entries: readonly ThresholdEntry[], counts: readonly number[]) =>
  entries.reduce(
    (sum, { costs }, at) =>
      sum +
      Array.from(costs)
        .slice(0, counts[at])
        .reduce((a, b) => a + b, 0),
    0,
  );

/** The cheapest counts of two entries that meet a budget, by trying all. */
function cheapest(entries: readonly [ThresholdEntry, ThresholdEntry], total: number): number {
  let best = Number.POSITIVE_INFINITY;
  for (let first = 0; first < entries[0].costs.length; first++) {
    const second = total - first;
    if (second >= 0 && second < entries[1].costs.length) best = Math.min(best, costOf(entries, [first, second]));
  }
  return best;
}

it.each([0.1, 0.35, 0.5, 0.8])('meets the sparsity %d at the least cost', (sparsity) => {
  const entries = [entryOf(rising(40, 1)), entryOf(rising(40, 3))] as const;
  const counts = allocateByThreshold(entries, sparsity);
  expect(counts[0]! + counts[1]!).toBe(Math.round(sparsity * 80));
  expect(costOf(entries, counts)).toBeCloseTo(cheapest(entries, Math.round(sparsity * 80)), 12);
});

it('compares costs per removed parameter', () => {
  const costly = entryOf([4, 4, 4, 4], { parametersPerStep: 10, parameterCount: 40 });
  const cheap = entryOf([1, 1, 1, 1]);
  expect(allocateByThreshold([costly, cheap], 10 / 44)).toEqual([1, 0]);
});

it('meets the budget to half the smallest step, by fine steps after coarse ones', () => {
  const coarse = entryOf([1, 1, 1], { parametersPerStep: 100, parameterCount: 300 });
  const fine = entryOf(Array(50).fill(2), { parametersPerStep: 3, parameterCount: 150 });
  for (const sparsity of [0.1, 0.3, 0.47, 0.6]) {
    const [a = 0, b = 0] = allocateByThreshold([coarse, fine], sparsity);
    expect(Math.abs(100 * a + 3 * b - sparsity * 450)).toBeLessThanOrEqual(1.5);
  }
});

it('exceeds the budget by the smallest step that comes nearer to it', () => {
  const [cheap, finer] = [
    entryOf([1, 1, 1], { parametersPerStep: 5, parameterCount: 15 }),
    entryOf([9, 9, 9], { parametersPerStep: 4, parameterCount: 12 }),
  ];
  expect(allocateByThreshold([cheap, finer], 3 / 27)).toEqual([0, 1]);
  expect(allocateByThreshold([cheap, finer], 1.9 / 27)).toEqual([0, 0]);
});

it('raises decreasing costs to the preceding ones', () => {
  const [first = 0] = allocateByThreshold([entryOf([5, 0, 0, 0]), entryOf([1, 1, 1, 1])], 3 / 8);
  expect(first).toBe(0);
});

it('removes steps of equal cost evenly from all entries', () => {
  const entries = [entryOf(Array(10).fill(0.1)), entryOf(Array(20).fill(0.1)), entryOf(Array(10).fill(0.1))];
  expect(allocateByThreshold(entries, 0.5)).toEqual([5, 10, 5]);
  expect(allocateByThreshold([...entries, entryOf(Array(10).fill(0))], 0.4)).toEqual([3, 6, 2, 9]);
});

it('respects minimum sizes and multiples', () => {
  const entries = [
    entryOf(Array(64).fill(0), { minimumKept: 20, multiple: 16 }),
    entryOf(Array(64).fill(1), { multiple: 8 }),
  ];
  const [first = 0, second = 0] = allocateByThreshold(entries, 0.5);
  expect(64 - first).toBe(32);
  expect(second).toBe(32);
  expect(allocateByThreshold([entryOf(Array(10).fill(0), { multiple: 4 })], 0.2)).toEqual([2]);
});

it('keeps fixed entries, and meets the budget with the others', () => {
  expect(allocateByThreshold([entryOf(Array(10).fill(0), { fixed: 0 }), entryOf(Array(10).fill(1))], 0.4)).toEqual([
    0, 8,
  ]);
});

it('refuses budgets that minimum sizes rule out, NaN costs and a sparsity of 1', () => {
  const withMinimum = [entryOf(Array(10).fill(0), { minimumKept: 8 })];
  expect(() => allocateByThreshold(withMinimum, 0.5)).toThrow(OptionError);
  expect(() => allocateByThreshold(withMinimum, 0.5)).toThrow(/at most 20\.00 % can be removed, 3 parameters too few/);
  const steps = { minimumKept: 5, parametersPerStep: 10, parameterCount: 100 };
  expect(() => allocateByThreshold([entryOf(Array(10).fill(0), steps)], 0.56)).toThrow(/at most 50\.00 %/);
  expect(allocateByThreshold([entryOf(Array(10).fill(0), steps)], 0.55)).toEqual([5]);
  expect(() => allocateByThreshold([entryOf([Number.NaN, 1])], 0.5)).toThrow(NumericalError);
  expect(() => allocateByThreshold([entryOf([1])], 1)).toThrow(OptionError);
});
