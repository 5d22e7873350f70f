import { fitCostModel } from '../../src/prune/cost-model.js';
import { type Bits, largestBytes, type Mixture, smallestMixture, uniformMixture } from '../../src/prune/mixtures.js';
import {
  checkSmallest,
  createSizeSearch,
  findSmallest,
  fitExactly,
  fitStrategies,
  keyOf,
  type SizeSearch,
  totalOf,
} from '../../src/prune/search-size.js';
import type { Journal } from '../../src/runtime/journal.js';
import { bitsOf, gridOf, sizeProblem } from '../support/size-problem.js';

const problem = sizeProblem(7);
const OVERHEAD = 137;
const target = Math.round(
  smallestMixture(problem).bytes + 0.45 * (largestBytes(problem) - smallestMixture(problem).bytes),
);

/** A model whose divergence grows faster than the sum of the costs of its changes. */
function searchOf(more: Partial<SizeSearch> = {}) {
  const { problem: given = problem } = more;
  const measured: Mixture[] = [];
  const search: SizeSearch = {
    problem,
    bits: [8, 4, 2],
    journal: undefined,
    onDraft: () => {},
    bytesOf: async ({ grids, steps }) => {
      const remaining = new Map(
        given.modules.map(({ index, stepCount }) => [index, 1 - (steps.get(index) ?? 0) / stepCount]),
      );
      return given.weights.reduce(
        (sum, { name, module, forms }) =>
          sum + Math.ceil(forms.find(({ grid }) => grid === grids.get(name))!.bytes * (remaining.get(module!) ?? 1)),
        given.fixedBytes + OVERHEAD,
      );
    },
    measure: async (mixture) => {
      measured.push(mixture);
      const costs = new Map(
        given.weights.map(({ name, forms }) => [
          name,
          forms.find(({ grid }) => grid === mixture.grids.get(name))!.cost,
        ]),
      );
      const rounding = [...costs.values()].reduce((sum, cost) => sum + cost);
      let pruning = 0;
      for (const { index, order } of given.modules)
        for (let step = 0; step < (mixture.steps.get(index) ?? 0); step += 1) pruning += order!.costs[step]!;
      return { pruning: 3 * pruning ** 1.4, quantising: 2 * rounding ** 1.1, roundingCosts: costs };
    },
    ...more,
  };
  return { search, measured };
}

it('meets a size in bytes of files with the best measured model that fits', async () => {
  const { search } = searchOf();
  const { chosen, candidates } = await (await createSizeSearch(search)).choose(target);
  expect(chosen.bytes).toBeLessThanOrEqual(target);
  expect(chosen.bytes).toBeGreaterThan(0.9 * target);
  const fitting = candidates.filter(({ bytes }) => bytes <= target);
  expect(totalOf(chosen.cost)).toBe(Math.min(...fitting.map(({ cost }) => totalOf(cost))));
  for (const kind of ['bits', 'pruned', 'mixture'])
    expect(candidates.map((candidate) => candidate.kind)).toContain(kind);
});

it('predicts the cost of the last mixture within 25 % from earlier measurements', async () => {
  const { search } = searchOf();
  const { candidates } = await (await createSizeSearch(search)).choose(target);
  const last = candidates.filter(({ kind }) => kind === 'mixture').at(-1)!;
  expect(last.predicted! / totalOf(last.cost)).toBeGreaterThan(0.8);
  expect(last.predicted! / totalOf(last.cost)).toBeLessThan(1.25);
});

it('corrects costs separately for each number of bits', () => {
  const measuredOf = (rounding: [Bits, number][], quantising: number) => ({
    mixture: { estimate: { pruning: 0, rounding: new Map(rounding) } },
    cost: { pruning: 0, quantising },
  });
  // Two bits cost 1.1 times the estimate to the power of 0.7, four bits twice theirs.
  const two = (estimate: number) => 1.1 * estimate ** 0.7;
  const { predict, slopesAt } = fitCostModel([
    measuredOf([[4, 0.05]], 0.1),
    measuredOf([[2, 1.4]], two(1.4)),
    measuredOf(
      [
        [4, 0.04],
        [2, 0.06],
      ],
      0.08 + two(0.06),
    ),
    // Too few weights have two bits to show what they cost.
    measuredOf(
      [
        [4, 0.05],
        [2, 0.001],
      ],
      0.4,
    ),
  ]);
  const rounding = new Map<Bits, number>([
    [4, 0.03],
    [2, 0.2],
  ]);
  expect(predict({ pruning: 0, rounding }).quantising).toBeCloseTo(0.06 + two(0.2), 10);
  const slopes = slopesAt({ pruning: 0, rounding });
  expect(slopes.get(4)).toBeCloseTo(2, 10);
  expect(slopes.get(2)).toBeCloseTo(0.7 * 1.1 * 0.2 ** -0.3, 2);
});

it('ignores what rounding adds to a pruned model where pruning costs far more', () => {
  const rounding = new Map<Bits, number>([[2, 0.3]]);
  const unpruned = { mixture: { estimate: { pruning: 0, rounding } }, cost: { pruning: 0, quantising: 0.4 } };
  const parts = new Map<Bits, number>([[2, 0.1]]);
  for (const quantising of [-0.01, 0.01]) {
    const pruned = { mixture: { estimate: { pruning: 0.4, rounding: parts } }, cost: { pruning: 0.5, quantising } };
    expect(fitCostModel([unpruned, pruned]).predict({ pruning: 0, rounding }).quantising).toBeCloseTo(0.4, 10);
  }
});

it('gives more weights four bits if two bits cost more than estimated', async () => {
  const estimates = searchOf();
  const costlier = searchOf();
  const search: SizeSearch = {
    ...costlier.search,
    async measure(mixture, onProgress) {
      const { quantising, ...found } = await costlier.search.measure(mixture, onProgress);
      const mapCount = problem.weights.length;
      const inTwo = Object.values(bitsOf(mixture)).filter((bits) => bits === 2).length;
      return {
        ...found,
        quantising: inTwo === mapCount ? quantising : quantising * (1 + 2 * Math.sqrt(inTwo / mapCount)),
      };
    },
  };
  const inTwo = ({ chosen }: { chosen: { mixture: Mixture } }) =>
    Object.values(bitsOf(chosen.mixture)).filter((bits) => bits === 2).length;
  const found = await (await createSizeSearch(search)).choose(target);
  const plain = await (await createSizeSearch(estimates.search)).choose(target);
  expect(inTwo(found)).toBeLessThan(inTwo(plain));
});

it('considers pruning with tables in the most or fewest bits, and measures the cheaper', async () => {
  const forms = ([8, 4] as const).map((bits) => ({
    grid: gridOf(bits),
    bytes: 400 * bits,
    cost: bits === 8 ? 0 : 1e-4,
  }));
  const table = { name: 'table', isTable: true, forms };
  const withTable = { ...problem, weights: [...problem.weights, table] };
  const limit = 0.5 * largestBytes(withTable);
  const pruned = fitStrategies(withTable, [8, 4]).filter(({ kind }) => kind === 'pruned');
  const found = pruned.map(({ make }) => make(limit)!);
  expect(found.map(bitsOf).map((bits) => [bits.table, bits['map 0']])).toEqual([
    [8, 8],
    [8, 4],
    [4, 4],
  ]);
  expect(found[2]!.sparsity).toBeLessThan(0.5 * found[1]!.sparsity);
  const { search, measured } = searchOf({ problem: withTable, bits: [8, 4] });
  await (await createSizeSearch(search)).choose(limit);
  const inOne = measured.filter((one) => one.steps.size > 0 && new Set(Object.values(bitsOf(one))).size === 1);
  expect(inOne.map((one) => bitsOf(one).table)).toEqual([4]);
  expect(measured.filter((one) => one.steps.size > 0 && bitsOf(one).table === 8)).toEqual([]);
});

it('takes as the cost of a table what it adds to the cost of a model in the most bits', async () => {
  const forms = ([8, 4] as const).map((bits) => ({
    grid: gridOf(bits),
    bytes: 400 * bits,
    cost: bits === 8 ? 0 : 0.05,
  }));
  const withTable = { ...problem, weights: [...problem.weights, { name: 'table', isTable: true, forms }] };
  const { search } = searchOf({ problem: withTable, bits: [8, 4] });
  const costOf = async (mixture: Mixture) => (await search.measure(mixture, () => {})).quantising;
  const added = (await costOf(uniformMixture(withTable, 8, 'table'))) - (await costOf(uniformMixture(withTable, 8)));
  const { problem: found } = await createSizeSearch(search);
  const [most, fewest] = found.weights.at(-1)!.forms;
  expect(most!.cost).toBe(0);
  expect(fewest!.cost).toBeCloseTo(added, 12);
});

it('chooses the most bits if they fit, after three measurements', async () => {
  const { search, measured } = searchOf();
  const { chosen } = await (await createSizeSearch(search)).choose(largestBytes(problem) + 200);
  expect(new Set(Object.values(bitsOf(chosen.mixture)))).toEqual(new Set([8]));
  expect(measured).toHaveLength(3);
});

it('does not repeat measurements of an earlier run that are in the journal', async () => {
  const entries = new Map<string, unknown>();
  const journal = {
    read: async (name: string) =>
      entries.has(name)
        ? (async function* () {
            yield entries.get(name);
          })()
        : undefined,
    write: async (name: string, [entry]: unknown[]) => void entries.set(name, structuredClone(entry)),
  } as unknown as Journal;
  const first = searchOf({ journal });
  const { chosen } = await (await createSizeSearch(first.search)).choose(target);
  const again = searchOf({ journal });
  const found = await (await createSizeSearch(again.search)).choose(target);
  expect(again.measured).toEqual([]);
  expect([...found.chosen.mixture.grids]).toEqual([...chosen.mixture.grids]);
});

it('chooses the same for a size whatever was chosen before, as a resumed run skips finished sizes', async () => {
  const least = smallestMixture(problem).bytes;
  const sizes = [0.5, 0.4, 0.3, 0.2].map((part) => Math.round(least + part * (largestBytes(problem) - least)));
  // Measured costs deviate from the estimates, so that every measurement changes the cost model.
  const open = () => {
    const { search } = searchOf();
    const measure: SizeSearch['measure'] = async (...given) => {
      const { quantising, ...found } = await search.measure(...given);
      return { ...found, quantising: quantising * (1 + 0.5 * Math.sin(7 * quantising)) };
    };
    return createSizeSearch({ ...search, measure });
  };
  const all = await open();
  for (const size of sizes) {
    const { chosen, candidates } = await all.choose(size);
    const alone = await (await open()).choose(size);
    expect(chosen.mixture).toEqual(alone.chosen.mixture);
    expect(candidates).toEqual(alone.candidates);
  }
});

it.each([0, 1, 10, 100])('removes as little as possible for %d bytes less than the dense model has', async (less) => {
  // Weights keep their form, and a step of units takes 4 % of the model.
  const weights = problem.weights.map(({ forms: [form], ...weight }) => ({
    ...weight,
    forms: [{ bytes: form!.bytes + 1 / 3, cost: 0 }],
  }));
  const one = { ...problem, weights };
  const bytesOf = async ({ steps }: Pick<Mixture, 'steps'>) =>
    Math.round(
      weights.reduce(
        (sum, { module, forms: [form] }) => sum + form!.bytes * (1 - (steps.get(module!) ?? 0) / 8),
        one.fixedBytes,
      ),
    );
  const dense = await bytesOf({ steps: new Map() });
  const measure: SizeSearch['measure'] = async ({ estimate }) => ({
    pruning: estimate.pruning,
    quantising: 0,
    roundingCosts: new Map(),
  });
  const search = { problem: one, bits: [], bytesOf, measure, journal: undefined, onDraft: () => {} };
  const { chosen } = await (await createSizeSearch(search)).choose(dense - less);
  expect(chosen.bytes).toBeLessThanOrEqual(dense - less);
  expect(chosen.bytes).toBeGreaterThan(0.85 * dense);
  expect(chosen.mixture.steps.size).toBe(less === 0 ? 0 : 1);
  expect(chosen.kind).toBe(less === 0 ? 'plain' : 'pruned');
});

it('names the smallest reachable size, and what limits it', async () => {
  const { search } = searchOf();
  const least = await search.bytesOf(smallestMixture(problem));
  const asked = { option: 'targetSize', describe: String };
  const smallest = await findSmallest(search);
  checkSmallest(smallest, { ...asked, targets: [least] });
  expect(() => checkSmallest(smallest, { ...asked, targets: [least, least - 1] })).toThrow(
    `targetSize is ${least - 1}, and the smallest that the allowed reductions reach is ${least}: all else that stays ${least}`,
  );
  const modules = problem.modules.map((module) => ({ ...module, kind: 'attention' as const, otherBytes: 9 }));
  const { bytes, binds } = await findSmallest({ ...search, problem: { ...problem, modules } });
  expect(binds).toEqual([{ name: 'the KV cache and all else that stays', bytes }]);
});

it('reports increasing progress of drafts, from 0 for each size', async () => {
  const counted: number[] = [];
  const { search } = searchOf({ onDraft: (done, total) => counted.push(done / total) });
  const stages = [0.2, 0.9, 0, 0.5];
  const { measure } = search;
  const sizes = await createSizeSearch({
    ...search,
    async measure(mixture, onProgress) {
      for (const fraction of stages) onProgress(fraction);
      return measure(mixture, onProgress);
    },
  });
  await sizes.choose(target);
  const second = counted.length;
  await sizes.choose(Math.round(0.9 * target));
  for (const part of [counted.slice(0, second), counted.slice(second)]) {
    expect(part).toEqual([...part].sort((a, b) => a - b));
    expect(part[0]).toBe(0);
    expect(part.at(-1)).toBeLessThan(1);
  }
});

it('aims lower until the mixture changes if the first one is too large', async () => {
  const withSteps = (count: number) => ({ grids: new Map(), steps: new Map([[0, count]]) }) as unknown as Mixture;
  const fitted = await fitExactly(
    { bytesOf: async ({ steps }) => (steps.get(0) === 1 ? 101 : 97) },
    (limit) => withSteps(limit > 97.5 ? 1 : 2),
    100,
  );
  expect(fitted).toEqual({ mixture: withSteps(2), bytes: 97 });
});

it('has one key for equal mixtures, in whatever order they were made', () => {
  const grids = [
    ['a', { bits: 4 }],
    ['b', { bits: 8 }],
  ] as const;
  const steps = [
    [2, 1],
    [10, 3],
  ] as const;
  const keyIn = (gridList: readonly unknown[], stepList: readonly unknown[]) =>
    keyOf({ grids: new Map(gridList as never), steps: new Map(stepList as never) });
  expect(keyIn(grids.toReversed(), steps.toReversed())).toBe(keyIn(grids, steps));
  expect(keyIn(grids, steps.slice(1))).not.toBe(keyIn(grids, steps));
});
