import { outlierRatio } from '../../src/allocation/owl.js';
import { allocateStandardised, type StandardisedEntry } from '../../src/allocation/standardised.js';
import { OptionError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';

const random = createRandom(4);
const entry = (unitCount: number, parametersPerStep: number, power = 1): StandardisedEntry => ({
  scores: Float64Array.from({ length: unitCount }, () => random() ** power),
  parametersPerStep,
});

describe('allocateStandardised', () => {
  it('meets the budget to half a neuron with heads and neurons of different sizes', () => {
    for (const sparsity of [0, 0.1, 0.3, 0.5, 0.8]) {
      const entries = [entry(8, 9216), entry(512, 576), entry(8, 9216, 3), entry(512, 576, 5)];
      const counts = allocateStandardised(entries, sparsity);
      const removed = counts.reduce((sum, count, index) => sum + count * entries[index]!.parametersPerStep, 0);
      const total = 2 * (8 * 9216 + 512 * 576);
      expect(Math.abs(removed - sparsity * total)).toBeLessThanOrEqual(576 / 2);
    }
  });

  it('removes the same after scores are scaled and shifted', () => {
    const one = entry(40, 1);
    const other = entry(40, 1, 4);
    const scaled = { ...other, scores: Float64Array.from(other.scores, (score) => 1e6 * score + 3) };
    expect(allocateStandardised([one, scaled], 0.3)).toEqual(allocateStandardised([one, other], 0.3));
  });

  it('removes more from the module with a longer low tail', () => {
    const tail = { scores: [-9, -9, ...new Array<number>(8).fill(1)], parametersPerStep: 1 };
    const even = { scores: [0, 1, 0, 1, 0, 1, 0, 1, 0, 1], parametersPerStep: 1 };
    expect(allocateStandardised([even, tail], 0.1)).toEqual([0, 2]);
  });

  it('removes a head more only if that is nearer to the budget', () => {
    const heads = { scores: [1, 2, 3, 4], parametersPerStep: 10 };
    expect(allocateStandardised([heads], 0.4)).toEqual([2]);
    expect(allocateStandardised([heads], 0.35)).toEqual([1]);
  });

  it('divides by the deviation of a sample, which is larger for few units', () => {
    // The lowest scores are 0.71 and 0.77 of these deviations below their means, but 1 and 0.82 of those of a population.
    const [few, many] = [
      [0, 1],
      [0, 0, 0, 0, 0, 0, 1, 1, 1, 1],
    ].map((scores) => ({ scores, parametersPerStep: 1 }));
    expect(allocateStandardised([few!, many!], 1 / 12)).toEqual([0, 1]);
  });

  it('removes units of equal scores evenly from all modules', () => {
    const constant = [0.1, 0.3, 7].map((score, at) => ({
      scores: new Array<number>(10 * (at + 1)).fill(score),
      parametersPerStep: 1,
    }));
    expect(allocateStandardised(constant, 0.5)).toEqual([5, 10, 15]);
  });

  it('keeps the minimum of every module', () => {
    const entries = [{ ...entry(8, 1), minimumKept: 6 }, entry(8, 1)];
    const counts = allocateStandardised(entries, 0.5);
    expect(counts[0]).toBeLessThanOrEqual(2);
    expect(counts[0]! + counts[1]!).toBe(8);
    expect(() => allocateStandardised(entries, 0.9)).toThrow(/too few/);
  });

  it('refuses scores that are not finite and an impossible sparsity', () => {
    expect(() => allocateStandardised([{ scores: [1, Number.NaN], parametersPerStep: 1 }], 0.3)).toThrow(OptionError);
    expect(() => allocateStandardised([entry(4, 1)], 1)).toThrow(OptionError);
  });
});

describe('outlierRatio', () => {
  it('counts scores above five times their mean', () => {
    expect(outlierRatio([...new Array<number>(19).fill(1), 100])).toBe(0.05);
    // 4.4 and 5.4 times their mean.
    expect(outlierRatio([...new Array<number>(9).fill(1), 7])).toBe(0);
    expect(outlierRatio([...new Array<number>(9).fill(1), 10.6])).toBe(0.1);
    expect(outlierRatio([1, 1, 1])).toBe(0);
    expect(outlierRatio([])).toBe(0);
  });
});
