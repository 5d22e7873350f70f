import { readFileSync } from 'node:fs';
import { type AllocationEntry, allocateSparsity } from '../../src/allocation/allocate-sparsity.js';
import {
  ALLOCATION_RULES,
  type AllocationRule,
  type AllocationRuleName,
} from '../../src/allocation/allocation-rules.js';
import { NumericalError, OptionError } from '../../src/errors.js';

const names = Object.keys(ALLOCATION_RULES) as AllocationRuleName[];
const MEASURES = [0.98, 0.03, 0.2, 0.07, 0.07, 0.11];
const entriesOf = (change: (index: number) => Partial<AllocationEntry> = () => ({})): AllocationEntry[] =>
  MEASURES.map((x, index) => ({
    parameterCount: 1000 + 317 * index,
    blockChange: x,
    outlierRatio: x,
    sensitivity: x,
    ...change(index),
  }));

/** Parameter-weighted mean. */
function mean(sparsities: Float64Array, entries: readonly AllocationEntry[]): number {
  const total = entries.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  return entries.reduce((sum, { parameterCount }, index) => sum + parameterCount * sparsities[index]!, 0) / total;
}

describe.each(names)('allocation rule %s', (rule) => {
  const row: AllocationRule = ALLOCATION_RULES[rule];

  it.each([0, 0.05, 0.2, 0.3, 0.5, 0.7, 0.9])('meets the budget %d exactly, within its range', (sparsity) => {
    const entries = entriesOf();
    const sparsities = allocateSparsity({ rule, sparsity, entries });
    expect(mean(sparsities, entries)).toBeCloseTo(sparsity, 12);
    const [lowest, highest] = row.range(sparsity);
    for (const value of sparsities) {
      expect(value).toBeGreaterThanOrEqual(lowest);
      expect(value).toBeLessThanOrEqual(highest);
    }
  });

  it('spares the block with the largest measure and treats equal ones alike', () => {
    const sparsities = allocateSparsity({ rule, sparsity: 0.4, entries: entriesOf() });
    if (row.measure !== undefined) expect(sparsities[0]).toBe(Math.min(...sparsities));
    expect(sparsities[3]).toBe(sparsities[4]);
  });

  it('is uniform when all blocks measure the same', () => {
    const entries = entriesOf(() => ({ blockChange: 0.1, outlierRatio: 0.1, sensitivity: 0.1 }));
    for (const value of allocateSparsity({ rule, sparsity: 0.3, entries })) expect(value).toBeCloseTo(0.3, 12);
  });

  it('leaves fixed blocks alone, respects maxima and moves the rest', () => {
    const entries = entriesOf((index) =>
      index === 2 ? { fixed: 0 } : index === 5 ? { fixed: 0.25 } : index === 1 ? { maximum: 0.31 } : {},
    );
    const sparsities = allocateSparsity({ rule, sparsity: 0.28, entries });
    expect([sparsities[2], sparsities[5]]).toEqual([0, 0.25]);
    expect(sparsities[1]).toBeLessThanOrEqual(0.31);
    expect(mean(sparsities, entries)).toBeCloseTo(0.28, 12);
  });

  it('follows the blocks when they are permuted', () => {
    const entries = entriesOf();
    const forwards = allocateSparsity({ rule, sparsity: 0.3, entries });
    const backwards = allocateSparsity({ rule, sparsity: 0.3, entries: entries.toReversed() });
    backwards.toReversed().forEach((value, index) => {
      expect(value).toBeCloseTo(forwards[index]!, 12);
    });
  });

  it('says what is missing when the budget cannot be met', () => {
    const entries = entriesOf((index) => (index < 5 ? { fixed: 0 } : {}));
    expect(() => allocateSparsity({ rule, sparsity: 0.6, entries })).toThrow(
      /60.00 %.*at most .* parameters are missing/,
    );
    const tooMuch = entriesOf(() => ({ fixed: 0.5 }));
    expect(() => allocateSparsity({ rule, sparsity: 0.3, entries: tooMuch })).toThrow(/at least 50.00 %/);
  });

  it('refuses missing or damaged measures', () => {
    if (row.measure === undefined) return;
    const without = entriesOf(() => ({ [row.measure!]: undefined }));
    const damaged = entriesOf(() => ({ [row.measure!]: Number.NaN }));
    expect(() => allocateSparsity({ rule, sparsity: 0.3, entries: without })).toThrow(OptionError);
    expect(() => allocateSparsity({ rule, sparsity: 0.3, entries: damaged })).toThrow(NumericalError);
  });
});

describe('allocateSparsity', () => {
  it('gives the reference numbers of the adaptive rule', () => {
    const { blockChange, sparsities } = JSON.parse(readFileSync('test/fixtures/golden-allocation.json', 'utf8'));
    const entries = blockChange.map((change: number) => ({ parameterCount: 7, blockChange: change }));
    const found = allocateSparsity({ rule: 'adaptive', sparsity: 0.3, entries });
    sparsities.forEach((value: number, index: number) => {
      expect(found[index]).toBeCloseTo(value, 14);
    });
  });

  it('refuses what is out of range', () => {
    const entries = entriesOf();
    for (const sparsity of [-0.1, 1, Number.NaN])
      expect(() => allocateSparsity({ rule: 'uniform', sparsity, entries })).toThrow(OptionError);
    expect(() => allocateSparsity({ rule: 'even' as 'uniform', sparsity: 0.3, entries })).toThrow(
      /"even".*uniform, adaptive/,
    );
    const bad = entriesOf(() => ({ fixed: 1 }));
    expect(() => allocateSparsity({ rule: 'uniform', sparsity: 0.3, entries: bad })).toThrow(OptionError);
  });

  it('allocates nothing to no blocks', () => {
    expect(allocateSparsity({ rule: 'adaptive', sparsity: 0.3, entries: [] })).toHaveLength(0);
  });
});
