import { type RoundingEntry, roundBudget } from '../../src/allocation/round-budget.js';
import { createRandom } from '../../src/linalg/random.js';

const removedParameters = (entries: readonly RoundingEntry[], counts: readonly number[]) =>
  entries.reduce((sum, { parametersPerStep }, index) => sum + parametersPerStep * counts[index]!, 0);
const requestedParameters = (entries: readonly RoundingEntry[]) =>
  entries.reduce((sum, { parametersPerStep, requested }) => sum + parametersPerStep * requested, 0);

describe('roundBudget', () => {
  it('keeps each module within one unit and the total within half the largest unit', () => {
    const random = createRandom(1);
    for (let trial = 0; trial < 200; trial++) {
      const entries = Array.from({ length: 1 + Math.floor(random() * 12) }, () => {
        const heads = random() < 0.5;
        const stepCount = heads ? 8 : 512;
        return { stepCount, requested: random() * (stepCount - 1), parametersPerStep: heads ? 4608 : 576 };
      });
      const counts = roundBudget(entries);
      counts.forEach((count, index) => {
        expect(Math.abs(count - entries[index]!.requested)).toBeLessThanOrEqual(1);
        expect(Number.isInteger(count)).toBe(true);
      });
      const largest = Math.max(...entries.map(({ parametersPerStep }) => parametersPerStep));
      expect(Math.abs(removedParameters(entries, counts) - requestedParameters(entries))).toBeLessThanOrEqual(
        largest / 2 + 1e-6,
      );
    }
  });

  it('meets the total to one unit for equal modules, earlier modules first', () => {
    const entry = { stepCount: 512, requested: 153.6, parametersPerStep: 576 };
    expect(roundBudget([entry, entry, entry, entry, entry])).toEqual([154, 154, 154, 153, 153]);
  });

  it('returns whole requests unchanged despite rounding errors', () => {
    expect(roundBudget([{ stepCount: 10, requested: 10 * 0.3, parametersPerStep: 1 }])).toEqual([3]);
    expect(roundBudget([{ stepCount: 10, requested: 0.1 + 0.2 + 2.7, parametersPerStep: 1 }])).toEqual([3]);
  });

  it('keeps multiples of units, or whole modules, each within one multiple of its request', () => {
    const random = createRandom(2);
    for (const multiple of [8, 16, 32, 64]) {
      const entries = Array.from({ length: 9 }, (_, index) => ({
        stepCount: index === 8 ? 1000 : 1536,
        requested: index === 0 ? 0 : random() * 900,
        parametersPerStep: 1728,
        multiple,
      }));
      const counts = roundBudget(entries);
      expect(counts[0]).toBe(0);
      counts.forEach((count, index) => {
        const { stepCount, requested } = entries[index]!;
        expect(count === 0 || (stepCount - count) % multiple === 0).toBe(true);
        expect(Math.abs(count - requested)).toBeLessThan(multiple);
      });
      const error = Math.abs(removedParameters(entries, counts) - requestedParameters(entries)) / 1728;
      expect(error).toBeLessThanOrEqual(multiple / 2 + 1e-6);
    }
  });

  it('never empties a module unless its minimum is 0, and refuses requests beyond the minimum', () => {
    expect(roundBudget([{ stepCount: 3, requested: 2.9, parametersPerStep: 1 }])).toEqual([2]);
    expect(roundBudget([{ stepCount: 64, requested: 60, parametersPerStep: 1, multiple: 32 }])).toEqual([32]);
    expect(roundBudget([{ stepCount: 4, requested: 3.9, parametersPerStep: 1, minimumKept: 0 }])).toEqual([4]);
    expect(() => roundBudget([{ stepCount: 9, requested: 8, parametersPerStep: 1, minimumKept: 4 }])).toThrow(
      /8.00 of 9 steps, but 4 must stay/,
    );
  });
});
