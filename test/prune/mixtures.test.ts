import {
  BLOCK_SIZES,
  type CostSlopes,
  costInBlocks,
  formsIn,
  largestBytes,
  mixturesAt,
  type SizeProblem,
  smallestMixture,
  sumOfRounding,
  uniformMixture,
} from '../../src/prune/mixtures.js';
import { bitsOf, gridOf, sizeProblem } from '../support/size-problem.js';

describe('mixturesAt', () => {
  it('fits every mixture into the bytes, from the most bits with the fewest units to the most units', () => {
    const problem = sizeProblem(3, { stepCount: 32 });
    const most = largestBytes(problem);
    const least = smallestMixture(problem).bytes;
    const target = least + 0.5 * (most - least);
    const found = mixturesAt(problem, target);
    expect(found.length).toBeGreaterThan(2);
    // Half the smallest step may be missing or remaining.
    const step = most / 2 / problem.modules[0]!.stepCount;
    for (const { bytes } of found) expect(bytes).toBeLessThanOrEqual(target + step);
    const sparsities = found.map(({ sparsity }) => sparsity);
    expect(sparsities).toEqual([...sparsities].sort((a, b) => b - a));
    expect(found.at(-1)!.steps.size).toBe(0);
  });

  it.each([1, 2, 3, 4, 5])('costs less than 1.2 times the best of all mixtures (seed %i)', (seed) => {
    const problem = sizeProblem(seed, { mapCount: 6, stepCount: 16 });
    const most = largestBytes(problem);
    const target = smallestMixture(problem).bytes + 0.4 * (most - smallestMixture(problem).bytes);
    const costOf = ({ estimate }: ReturnType<typeof mixturesAt>[number]) => estimate.pruning + sumOfRounding(estimate);
    // Callers vary the target by a step more or less.
    const aimed = [0.94, 0.96, 0.98, 1].flatMap((share) => mixturesAt(problem, share * target));
    const found = Math.min(...aimed.filter(({ bytes }) => bytes <= target).map(costOf));
    expect(found).toBeLessThan(1.2 * bestOfAll(problem, target));
  });

  it('counts bytes of steps of different sizes, such as experts and neurons', () => {
    const [module] = sizeProblem(1).modules;
    const stepParameters = Float64Array.of(50, 400, 50, 300);
    const experts = {
      ...module!,
      otherBytes: 4000,
      kind: 'experts' as const,
      stepCount: 4,
      minimumKept: 0,
      stepParameters,
      parametersPerStep: 50,
      order: { scores: new Float64Array(4), costs: Float64Array.of(1, 20, 5, 60) },
    };
    const problem = { weights: [], modules: [experts], fixedBytes: 100, evenHeads: true };
    const [mixture] = mixturesAt(problem, 4100 - 4 * 450);
    expect([...mixture!.steps]).toEqual([[0, 2]]);
    expect(mixture!.bytes).toBe(4100 - 4 * 450);
    expect(mixture!.sparsity).toBeCloseTo(0.45, 12);
    expect(mixture!.estimate.pruning).toBe(21);
    expect(smallestMixture(problem).bytes).toBeCloseTo(4100 - 4 * 800, 6);
  });

  it('estimates a pruned model: rounding only of what remains, and sparsity of all that can be pruned', () => {
    const [module] = sizeProblem(1).modules;
    const forms = [{ grid: gridOf(4), bytes: 800, cost: 0.4 }];
    const weights = [{ name: 'only', isTable: false, module: 0, forms }];
    const problem = { weights, modules: [module!], otherParameters: 3000, fixedBytes: 0, evenHeads: true };
    const [mixture] = mixturesAt(problem, 600);
    expect([...mixture!.steps]).toEqual([[0, 2]]);
    expect(mixture!.sparsity).toBeCloseTo(250 / 4000, 12);
    expect(sumOfRounding(mixture!.estimate)).toBeCloseTo(0.3, 12);
  });

  it.each([
    ['the step alone fits and costs less', 1300, 20, { 0: 1, 1: 1 }, 20],
    ['without neurons that the step makes unnecessary', 1000, 100, { 0: 1, 1: 1, 2: 2 }, 105],
    ['not where neurons cost less', 1300, 100, { 2: 5 }, 80],
  ])('removes heads of all attention together: %s', (_, target, headCost, steps, pruning) => {
    const [module] = sizeProblem(1).modules;
    const moduleOf = (
      index: number,
      kind: 'attention' | 'ffn',
      { bytes, costs }: { bytes: number; costs: number[] },
    ) => ({
      ...module!,
      index,
      kind,
      otherBytes: bytes,
      parameterCount: bytes,
      stepCount: costs.length,
      parametersPerStep: bytes / costs.length,
      minimumKept: 1,
      order: { scores: new Float64Array(costs.length), costs: Float64Array.from(costs) },
    });
    const heads = { bytes: 600, costs: [headCost / 2, headCost] };
    const neurons = moduleOf(2, 'ffn', { bytes: 600, costs: [1, 4, 10, 25, 40, 60] });
    const modules = [moduleOf(0, 'attention', heads), moduleOf(1, 'attention', heads), neurons];
    const [mixture] = mixturesAt({ weights: [], modules, fixedBytes: 0, evenHeads: true }, target);
    expect(Object.fromEntries(mixture!.steps)).toEqual(steps);
    expect(mixture!.estimate.pruning).toBe(pruning);
  });

  it('raises bits again if a large weight made more room than needed', () => {
    const forms = (bytes: number, cost: number) => [
      { grid: gridOf(8), bytes: 2 * bytes, cost: 0 },
      { grid: gridOf(4), bytes, cost },
    ];
    const weight = (name: string, bytes: number, cost: number) => ({ name, isTable: false, forms: forms(bytes, cost) });
    const weights = [weight('small', 10, 1), weight('other', 10, 2), weight('large', 100, 21)];
    const problem = { weights, modules: [], fixedBytes: 0, evenHeads: true };
    // By the cost of a byte the small ones go first, and both fit again once the large one went.
    const found = mixturesAt(problem, 150).at(-1)!;
    expect(bitsOf(found)).toEqual({ small: 8, other: 8, large: 4 });
    expect([found.bytes, sumOfRounding(found.estimate)]).toEqual([140, 21]);
    expect(bitsOf(mixturesAt(problem, 135).at(-1)!)).toEqual({ small: 4, other: 8, large: 4 });
  });

  it('orders weights by the slopes of costs, with unchanged estimates', () => {
    const forms = (costs: readonly number[]) =>
      ([8, 4, 2] as const).map((bits, at) => ({ grid: gridOf(bits), bytes: 10 * bits, cost: costs[at]! }));
    const weight = (name: string, costs: readonly number[]) => ({ name, isTable: false, forms: forms(costs) });
    const weights = [weight('first', [0, 1, 2]), weight('second', [0, 3, 9])];
    const problem = { weights, modules: [], fixedBytes: 0, evenHeads: true };
    const bitsAt = (slopes?: CostSlopes) => bitsOf(mixturesAt(problem, 100, slopes).at(-1)!);
    expect(bitsAt()).toEqual({ first: 2, second: 8 });
    expect(bitsAt(new Map([[2, 3]]))).toEqual({ first: 4, second: 4 });
    const found = mixturesAt(problem, 60, new Map([[2, 3]])).at(-1)!;
    expect(bitsOf(found)).toEqual({ first: 2, second: 4 });
    expect([...found.estimate.rounding].sort(([a], [b]) => a - b)).toEqual([
      [2, 2],
      [4, 3],
    ]);
  });

  it('takes larger blocks before fewer bits, at the cost of their squared error', () => {
    const costs = { 8: 0, 4: 1, 2: 20 };
    const grids = ([8, 4, 2] as const).flatMap((bits) =>
      BLOCK_SIZES.map((blockSize) => ({
        grid: { bits, blockSize },
        bytes: bits * 10 + 320 / blockSize,
        cost: costs[bits],
      })),
    );
    const weight = { name: 'only', isTable: false, forms: grids };
    const forms = grids.map((form) => ({
      ...form,
      cost: costInBlocks(form.cost, form, weight),
    }));
    expect(forms.map(({ cost }) => cost)).toEqual([0, 0, 0, 1, 1.31, 1.65, 20, 1.31 * 20, 33]);
    expect(formsIn({ forms: forms.slice(3, 6) }, 8).map(({ bytes }) => bytes)).toEqual([50, 45, 42.5]);
    expect(formsIn({ forms: forms.slice(0, 6) }, 2).map(({ bytes }) => bytes)).toEqual([50, 45, 42.5]);
    const problem = { weights: [{ ...weight, forms }], modules: [], fixedBytes: 0, evenHeads: true };
    const gridAt = (bytes: number) => mixturesAt(problem, bytes).at(-1)!.grids.get('only');
    expect([82.5, 50, 45, 43, 42].map(gridAt)).toEqual([
      { bits: 8, blockSize: 128 },
      { bits: 4, blockSize: 32 },
      { bits: 4, blockSize: 64 },
      { bits: 4, blockSize: 128 },
      { bits: 2, blockSize: 32 },
    ]);
    expect(uniformMixture(problem, 4).grids.get('only')).toEqual({ bits: 4, blockSize: 32 });
    expect(smallestMixture(problem).bytes).toBe(22.5);
  });

  it('returns none if the bytes cannot be met, and all bits if they fit', () => {
    const problem = sizeProblem(1);
    expect(mixturesAt(problem, smallestMixture(problem).bytes * 0.99)).toEqual([]);
    const [only, ...others] = mixturesAt(problem, largestBytes(problem));
    expect(others).toEqual([]);
    expect(new Set(Object.values(bitsOf(only!)))).toEqual(new Set([8]));
  });
});

it('removes as many heads as each type of attention can lose', () => {
  const [module] = sizeProblem(1).modules;
  const attention = (index: number, attentionType: 'full' | 'linear' | 'shared', stepCount: number) => ({
    ...module!,
    index,
    block: index,
    kind: 'attention' as const,
    attentionType,
    otherBytes: 1000,
    unitCount: stepCount,
    stepCount,
    parametersPerStep: 1000 / stepCount,
    order: undefined,
  });
  const modules = [
    ...[attention(0, 'full', 2), attention(1, 'full', 4)],
    ...[attention(2, 'linear', 8), attention(3, 'linear', 16), attention(4, 'shared', 4)],
  ];
  const { steps } = smallestMixture({ weights: [], modules, fixedBytes: 0, evenHeads: true });
  expect(Object.fromEntries(steps)).toEqual({ 0: 1, 1: 1, 2: 7, 3: 7, 4: 3 });
});

it('gives tables the most bits in a model with a uniform number of bits', () => {
  const problem = sizeProblem(1);
  const weights = problem.weights.map((weight, at) => ({ ...weight, isTable: at === 0 }));
  const mixture = uniformMixture({ ...problem, weights }, 4);
  expect(Object.values(bitsOf(mixture)).filter((own) => own === 8)).toHaveLength(1);
  expect(bitsOf(uniformMixture({ ...problem, weights }, 8, weights[0]!.name))[weights[0]!.name]).toBe(2);
});

/** Tries all numbers of bits and of steps. */
function bestOfAll(problem: SizeProblem, target: number): number {
  let best = Number.POSITIVE_INFINITY;
  const formCounts = problem.weights.map(({ forms }) => forms.length);
  const stepCounts = problem.modules.map(({ stepCount }) => stepCount);
  for (const forms of product(formCounts)) {
    for (const steps of product(stepCounts)) {
      const remaining = new Map(problem.modules.map(({ index, stepCount }, at) => [index, 1 - steps[at]! / stepCount]));
      let [bytes, cost] = [problem.fixedBytes, 0];
      for (const [at, { module, forms: own }] of problem.weights.entries()) {
        bytes += own[forms[at]!]!.bytes * remaining.get(module!)!;
        cost += own[forms[at]!]!.cost * remaining.get(module!)!;
      }
      for (const [at, { order }] of problem.modules.entries())
        for (let step = 0; step < steps[at]!; step += 1) cost += order!.costs[step]!;
      if (bytes <= target) best = Math.min(best, cost);
    }
  }
  return best;
}

function* product(counts: readonly number[]): Generator<number[]> {
  const at = counts.map(() => 0);
  while (true) {
    yield [...at];
    let place = 0;
    while (place < at.length && at[place] === counts[place]! - 1) at[place++] = 0;
    if (place === at.length) return;
    at[place]! += 1;
  }
}
