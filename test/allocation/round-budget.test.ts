import { type RoundingEntry, roundBudget } from '../../src/allocation/round-budget.js';
import { OptionError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';

const removedParameters = (entries: readonly RoundingEntry[], counts: readonly number[]) =>
  entries.reduce((sum, { parametersPerUnit }, index) => sum + parametersPerUnit * counts[index]!, 0);
const askedParameters = (entries: readonly RoundingEntry[]) =>
  entries.reduce((sum, { parametersPerUnit, requested }) => sum + parametersPerUnit * requested, 0);

describe('roundBudget', () => {
  it('keeps each module within one unit and the total within half the largest unit', () => {
    const random = createRandom(1);
    for (let trial = 0; trial < 200; trial++) {
      const entries = Array.from({ length: 1 + Math.floor(random() * 12) }, () => {
        const heads = random() < 0.5;
        const unitCount = heads ? 8 : 512;
        return { unitCount, requested: random() * (unitCount - 1), parametersPerUnit: heads ? 4608 : 576 };
      });
      const counts = roundBudget(entries);
      counts.forEach((count, index) => {
        expect(Math.abs(count - entries[index]!.requested)).toBeLessThanOrEqual(1);
        expect(Number.isInteger(count)).toBe(true);
      });
      const largest = Math.max(...entries.map(({ parametersPerUnit }) => parametersPerUnit));
      expect(Math.abs(removedParameters(entries, counts) - askedParameters(entries))).toBeLessThanOrEqual(
        largest / 2 + 1e-6,
      );
    }
  });

  it('meets the total to one unit for equal modules, earlier modules first', () => {
    const entry = { unitCount: 512, requested: 153.6, parametersPerUnit: 576 };
    expect(roundBudget([entry, entry, entry, entry, entry])).toEqual([154, 154, 154, 153, 153]);
  });

  it('takes whole requests as they are, in spite of rounding errors', () => {
    expect(roundBudget([{ unitCount: 10, requested: 10 * 0.3, parametersPerUnit: 1 }])).toEqual([3]);
    expect(roundBudget([{ unitCount: 10, requested: 0.1 + 0.2 + 2.7, parametersPerUnit: 1 }])).toEqual([3]);
  });

  it('keeps widths at multiples, each within one multiple, or whole', () => {
    const random = createRandom(2);
    for (const widthMultiple of [8, 16, 32, 64]) {
      const entries = Array.from({ length: 9 }, (_, index) => ({
        unitCount: index === 8 ? 1000 : 1536,
        requested: index === 0 ? 0 : random() * 900,
        parametersPerUnit: 1728,
        widthMultiple,
      }));
      const counts = roundBudget(entries);
      expect(counts[0]).toBe(0);
      counts.forEach((count, index) => {
        const { unitCount, requested } = entries[index]!;
        expect(count === 0 || (unitCount - count) % widthMultiple === 0).toBe(true);
        expect(Math.abs(count - requested)).toBeLessThan(widthMultiple);
      });
      const error = Math.abs(removedParameters(entries, counts) - askedParameters(entries)) / 1728;
      expect(error).toBeLessThanOrEqual(widthMultiple / 2 + 1e-6);
    }
  });

  it('never empties a module, and keeps the floor it is given', () => {
    expect(roundBudget([{ unitCount: 3, requested: 2.9, parametersPerUnit: 1 }])).toEqual([2]);
    expect(roundBudget([{ unitCount: 64, requested: 60, parametersPerUnit: 1, widthMultiple: 32 }])).toEqual([32]);
    expect(roundBudget([{ unitCount: 4, requested: 3.9, parametersPerUnit: 1, minimumKept: 0 }])).toEqual([4]);
    expect(() => roundBudget([{ unitCount: 9, requested: 8, parametersPerUnit: 1, minimumKept: 4 }])).toThrow(
      /8.00 of 9 units, but 4 must stay/,
    );
  });

  it('refuses what is out of range', () => {
    const entry = { unitCount: 8, requested: 1, parametersPerUnit: 1 };
    for (const change of [
      { requested: Number.NaN },
      { requested: 9 },
      { unitCount: 1.5 },
      { widthMultiple: 0 },
      { parametersPerUnit: -1 },
    ]) {
      expect(() => roundBudget([{ ...entry, ...change }])).toThrow(OptionError);
    }
  });
});
