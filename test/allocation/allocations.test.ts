import { readFileSync } from 'node:fs';
import { allocateSteps } from '../../src/allocation/allocate-steps.js';
import { type AllocationProblem, type ModuleMeasures, stepsOf } from '../../src/allocation/allocation.js';
import { ALLOCATIONS, type AllocationName } from '../../src/allocation/allocations.js';
import { spreadByMeasure } from '../../src/allocation/spread-by-measure.js';
import { NumericalError, OptionError } from '../../src/errors.js';

const MEASURES = [0.98, 0.03, 0.2, 0.07, 0.07, 0.11];
const STEPS = 400;

/** FFNs of different sizes; the larger the measure, the more scores are outliers. */
const modulesOf = (change: (block: number) => Partial<ModuleMeasures> = () => ({})): ModuleMeasures[] =>
  MEASURES.map((measure, block) => ({
    block,
    kind: 'ffn',
    parameterCount: (10 + 3 * block) * STEPS,
    parametersPerStep: 10 + 3 * block,
    unitCount: STEPS,
    stepCount: STEPS,
    minimumKept: 1,
    multiple: 1,
    blockChange: measure,
    sensitivity: measure,
    order: orderOf(measure),
    ...change(block),
  }));

function orderOf(measure: number) {
  const scores = Float64Array.from({ length: STEPS }, (_, at) => (at < measure * 40 ? 1000 : 1 + at / STEPS));
  return { scores, costs: scores.slice().sort() };
}

const problemOf = (sparsity: number, modules: readonly ModuleMeasures[] = modulesOf()): AllocationProblem => ({
  sparsity,
  modules,
  evenHeads: false,
});

/** Mean by parameters. */
function mean(sparsities: ArrayLike<number>, modules: readonly ModuleMeasures[]): number {
  const total = modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  return modules.reduce((sum, { parameterCount }, at) => sum + parameterCount * sparsities[at]!, 0) / total;
}

const RANGES: Partial<Record<AllocationName, (sparsity: number) => readonly [number, number]>> = {
  owl: (sparsity) => [sparsity - 0.08, sparsity + 0.08],
  'adaptive-clamped': (sparsity) => [0.5 * sparsity, 1.5 * sparsity],
};

describe.each(Object.keys(ALLOCATIONS) as AllocationName[])('allocation %s', (name) => {
  const row = ALLOCATIONS[name];
  const isThreshold = row.checkable === 'budget';
  /** Thresholds remove whole steps. */
  const digits = isThreshold ? 3 : 12;

  it('has a description and a paper', () => {
    expect(row.description).toBeTruthy();
    expect(row.paper).toBeTruthy();
  });

  it.each([0, 0.05, 0.2, 0.3, 0.5, 0.7, 0.9])('meets the budget %d, within its range', (sparsity) => {
    const sparsities = row.allocate(problemOf(sparsity));
    expect(mean(sparsities, modulesOf())).toBeCloseTo(sparsity, digits);
    const [lowest, highest] = RANGES[name]?.(sparsity) ?? [0, 1];
    for (const value of Array.from(sparsities)) {
      expect(value).toBeGreaterThanOrEqual(Math.max(0, lowest));
      expect(value).toBeLessThanOrEqual(Math.min(1, highest));
    }
  });

  it('removes least from the block with the largest measure, and the same from equal blocks', () => {
    if (isThreshold) return;
    const sparsities = Array.from(row.allocate(problemOf(0.4)));
    expect(sparsities[0]).toBe(Math.min(...sparsities));
    expect(sparsities[3]).toBe(sparsities[4]);
  });

  it('keeps fixed sparsities and minimum sizes, and meets the budget with the other blocks', () => {
    const modules = modulesOf((block) => {
      if (block === 2) return { fixed: 0 };
      return block === 5 ? { fixed: 0.25 } : block === 1 ? { minimumKept: 0.75 * STEPS } : {};
    });
    const sparsities = row.allocate(problemOf(0.28, modules));
    expect([sparsities[2], sparsities[5]]).toEqual([0, 0.25]);
    expect(sparsities[1]).toBeLessThanOrEqual(0.25);
    expect(mean(sparsities, modules)).toBeCloseTo(0.28, digits);
  });

  it('removes whole steps, and the same number of heads from every block', () => {
    const heads = { unitCount: 8, stepCount: 4, parametersPerStep: 500, parameterCount: 2000 } as const;
    const order = { scores: new Float64Array(8).fill(0.1), costs: new Float64Array(4).fill(0.2) };
    const attention = modulesOf(() => ({ kind: 'attention', ...heads, order }));
    const problem = { ...problemOf(0.5, [...modulesOf(), ...attention]), evenHeads: true };
    const steps = allocateSteps(row, problem);
    expect(steps.every(Number.isInteger)).toBe(true);
    expect(new Set(steps.slice(MEASURES.length)).size).toBe(1);
    const removed = steps.reduce((sum, count, at) => sum + count * problem.modules[at]!.parametersPerStep, 0);
    const total = problem.modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
    expect(removed / total).toBeCloseTo(0.5, 2);
  });

  it.each([0.2, 0.3, 0.4])(
    'meets the budget %d if blocks that share keys and values lose the same heads',
    (sparsity) => {
      const heads = { kind: 'attention', unitCount: 8, stepCount: 8, parametersPerStep: 500 } as const;
      const order = (block: number) => ({
        scores: orderOf(MEASURES[block]!).scores,
        costs: new Float64Array(8).fill(0.2),
      });
      const attention = modulesOf((block) => ({
        ...heads,
        parameterCount: 4000,
        order: order(block),
        ...(block % 2 === 0 && { keyValueSource: MEASURES.length }),
      }));
      const modules = [...modulesOf(), ...attention];
      const steps = allocateSteps(row, problemOf(sparsity, modules));
      const shared = steps.slice(MEASURES.length).filter((_, block) => block % 2 === 0);
      expect(new Set(shared).size).toBe(1);
      const removed = steps.reduce((sum, count, at) => sum + count * modules[at]!.parametersPerStep, 0);
      const total = modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
      // Uniform sparsities are not adjusted to the rounding of heads: at most half a head in each block.
      const rounding = name === 'uniform' ? (500 / 2) * attention.length : 0;
      expect(Math.abs(removed - sparsity * total)).toBeLessThan(100 + rounding);
    },
  );

  it('keeps numbers of heads even separately for full and for linear attention', () => {
    const heads = { kind: 'attention', unitCount: 8, parametersPerStep: 500 } as const;
    const order = (count: number, score: number) => ({
      scores: new Float64Array(8).fill(score),
      costs: new Float64Array(count).fill(score),
    });
    const attention = modulesOf((block) => {
      const [stepCount, score] = block % 2 === 0 ? ([4, 0.1] as const) : ([8, 0.3] as const);
      const attentionType = block % 2 === 0 ? 'full' : 'linear';
      return { ...heads, stepCount, attentionType, parameterCount: 500 * stepCount, order: order(stepCount, score) };
    });
    const steps = allocateSteps(row, { ...problemOf(0.4, attention), evenHeads: true });
    const [full, linear] = [0, 1].map((rest) => new Set(steps.filter((_, at) => at % 2 === rest)));
    expect([full!.size, linear!.size]).toEqual([1, 1]);
    expect(Math.max(...linear!)).not.toBe(Math.max(...full!));
  });

  it('permutes the sparsities with the blocks', () => {
    const modules = modulesOf();
    const forwards = row.allocate(problemOf(0.3, modules));
    const backwards = Array.from(row.allocate(problemOf(0.3, modules.toReversed())));
    backwards.toReversed().forEach((value, at) => {
      expect(value).toBeCloseTo(forwards[at]!, isThreshold ? 2 : 12);
    });
  });

  it('throws and advises a lower sparsity if the budget cannot be met', () => {
    const modules = modulesOf((block) => (block < 5 ? { fixed: 0 } : {}));
    expect(() => row.allocate(problemOf(0.6, modules))).toThrow(OptionError);
    expect(() => row.allocate(problemOf(0.6, modules))).toThrow(/lower the sparsity/);
  });
});

it.each<[AllocationName, readonly number[], readonly number[]]>([
  ['owl', [0.2, 0.1], [0.32, 0.48]],
  ['adaptive-clamped', [0, 1, 1, 1], [0.6, 1 / 3, 1 / 3, 1 / 3]],
])('allocation %s spreads blocks as far as its paper', (name, measures, expected) => {
  const modules = modulesOf().flatMap((module, block) =>
    measures[block] === undefined
      ? []
      : [{ ...module, parameterCount: STEPS, blockChange: measures[block]!, order: orderOf(measures[block]!) }],
  );
  const found = ALLOCATIONS[name].allocate(problemOf(0.4, modules));
  expected.forEach((sparsity, block) => {
    expect(found[block]).toBeCloseTo(sparsity, 12);
  });
});

describe('spreadByMeasure', () => {
  const measureOf = ({ blockChange }: ModuleMeasures) => blockChange;

  it('gives the reference numbers of the adaptive rule', () => {
    const { blockChange, sparsities } = JSON.parse(readFileSync('test/fixtures/golden-allocation.json', 'utf8'));
    const [module] = modulesOf();
    const modules = blockChange.map((change: number, block: number) => ({
      ...module,
      block,
      parameterCount: 7,
      blockChange: change,
    }));
    const found = ALLOCATIONS.adaptive.allocate(problemOf(0.3, modules));
    sparsities.forEach((value: number, at: number) => {
      expect(found[at]).toBeCloseTo(value, 14);
    });
  });

  it('is uniform when all blocks measure the same', () => {
    const modules = modulesOf(() => ({ blockChange: 0.1 }));
    for (const value of spreadByMeasure(problemOf(0.3, modules), { measureOf })) expect(value).toBeCloseTo(0.3, 12);
  });

  it('reports by how much a budget is out of reach', () => {
    const free = modulesOf((block) => (block < 5 ? { fixed: 0 } : {}));
    expect(() => spreadByMeasure(problemOf(0.6, free))).toThrow(/60.00 %.*at most .* parameters too few/);
    const fixed = modulesOf(() => ({ fixed: 0.5 }));
    expect(() => spreadByMeasure(problemOf(0.3, fixed))).toThrow(/at least 50.00 %/);
  });

  it('refuses sparsities out of range, and missing or NaN measures', () => {
    for (const sparsity of [-0.1, 1, Number.NaN])
      expect(() => spreadByMeasure(problemOf(sparsity))).toThrow(OptionError);
    const spread = (blockChange: number | undefined) => () =>
      spreadByMeasure(
        problemOf(
          0.3,
          modulesOf((block) => (block === 4 ? ({ blockChange } as object) : {})),
        ),
        { measureOf },
      );
    expect(spread(undefined)).toThrow(
      /block 4 ffn lacks the measure that the allocation reads; name it in the allocation's measures/,
    );
    expect(spread(Number.NaN)).toThrow(NumericalError);
  });

  it('returns an empty list for no blocks', () => {
    expect(spreadByMeasure(problemOf(0.3, []), { measureOf })).toHaveLength(0);
  });
});

describe('a custom allocation', () => {
  const heads = { kind: 'attention', stepCount: 4, unitCount: 8 } as const;

  it('is rounded to the nearest step', () => {
    const requested = [0.1, 0.2, 0.301, 0.4, 0, 0.999];
    expect(allocateSteps({ allocate: () => requested }, problemOf(0.3))).toEqual([40, 80, 120, 160, 0, 399]);
  });

  it('is averaged over heads that must be even, and does not change fixed modules', () => {
    const modules = modulesOf((block) => (block < 4 ? { ...heads } : { fixed: 0.5 }));
    const problem = { ...problemOf(0.3, modules), evenHeads: true };
    const steps = allocateSteps({ allocate: () => [0, 0.25, 0.75, 0.75, 0, 0] }, problem);
    expect(steps).toEqual([2, 2, 2, 2, 200, 200]);
    const fixedHead = modulesOf((block) => ({ ...heads, ...(block === 0 && { fixed: 0 }) }));
    expect(() =>
      allocateSteps({ allocate: () => [0, 1, 1, 1, 1, 1].map((x) => x / 2) }, { ...problem, modules: fixedHead }),
    ).toThrow(/set perBlockKvHeads/);
  });

  it.each([
    [[0.1, 0.2], /2 sparsities for 6 modules; expected one each, in their order/],
    [undefined, /no sparsities for 6 modules/],
    [[0, 0, Number.NaN, 0, 0, 0], /block 2 ffn the sparsity NaN; expected a number from 0 to below 1/],
    [[0, 0, 0, 0, -0.1, 0], /block 4 ffn the sparsity -0.1/],
    [[0, 0, 0, 0, 0, 1], /block 5 ffn the sparsity 1;/],
  ])('throws an error that describes the mistake: %p', (given, message) => {
    const allocate = () => given as number[];
    expect(() => allocateSteps({ allocate }, problemOf(0.3))).toThrow(OptionError);
    expect(() => allocateSteps({ allocate }, problemOf(0.3))).toThrow(message);
  });
});

describe('stepsOf', () => {
  const shape = { stepCount: 515, minimumKept: 1, multiple: 8 };

  it('keeps a multiple of units, or all of them at sparsity 0', () => {
    expect(stepsOf(shape, 0.3)).toBe(515 - 360);
    expect(stepsOf(shape, 0)).toBe(0);
    expect(stepsOf(shape, 0.999)).toBe(515 - 8);
    expect(stepsOf({ ...shape, minimumKept: 300 }, 0.9)).toBe(515 - 304);
    expect(stepsOf({ ...shape, minimumKept: 0 }, 1)).toBe(515);
  });
});
