import { UnsupportedModelError } from '../../src/errors.js';
import { type PruneOptions, resolveOptions } from '../../src/options.js';
import { measureDense } from '../../src/prune/measure-dense/measure-dense.js';
import { quantiseModel } from '../../src/prune/quantise/quantise-model.js';
import { refuseHealing } from '../../src/prune/refine/heal.js';
import { findWeights } from '../../src/quantisation/find-weights.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { checkPruning } from '../support/check-pruned.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, HIDDEN, linear, NEURONS, type Part, plainFfn, VOCABULARY } from '../support/small-decoder.js';
import { type Loaded, loadTinyLlama, pruneLoaded } from '../support/tiny-llama.js';

const ffn =
  (activation: string): Part =>
  ({ g }, x) =>
    linear(g, g.op(activation, [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);

/** A model whose activation has no gradient rule. */
const strange = loadTinyLlama(buildDecoder({ ffn: ffn('Softsign') }));

const windows = Array.from({ length: 6 }, (_, window) =>
  Int32Array.from({ length: 12 }, (_, at) => (at * (2 * window + 3) + at * at) % VOCABULARY),
);

const jobOf = ({ model, analysed }: Loaded, options: PruneOptions) => ({
  ...{ model, analysed, windows, engine: testEngine, store: storeInMemory, createStore: createMemoryStore },
  options: resolveOptions(options),
});

const NOTE = /^no gradient reaches the modules, so that runs with noise.*: No gradient rule for operator Softsign/;

it.each<PruneOptions>([{ sparsity: 0.4 }, { sparsity: 0.4, modules: 'attention' }])(
  'prunes a model without gradients by the default method, and says so in one line: %j',
  async (options) => {
    const { outcome, maskedGap } = await checkPruning(await strange, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(outcome.remarks.filter((remark) => NOTE.test(remark))).toHaveLength(1);
    const removed = outcome.modules.filter(({ module, keep }) => keep.length < module.unitCount);
    expect(removed.length).toBeGreaterThan(0);
  },
);

it('refuses healing before the work, with advice that the first test follows', async () => {
  const { model, analysed } = await strange;
  expect(() => refuseHealing({ model, analysed })).toThrow(
    /operator Softsign .*; healing needs it\. Prune without healing/,
  );
  const sound = await loadTinyLlama(buildDecoder());
  expect(() => refuseHealing(sound)).not.toThrow();
});

it('prunes a model that gives the last logits alone, whose loss is not known', async () => {
  const loaded = await loadTinyLlama(
    buildDecoder({ takeLast: (g, x) => g.op('ReduceMean', [x], { axes: [1], keepdims: 1 }) }),
  );
  const { modules, remarks } = await pruneLoaded(loaded, { sparsity: 0.4 }, { windows });
  expect(modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
  expect(remarks).toContainEqual(expect.stringMatching(/^no gradient reaches.*expected logits of every token/));
});

it.each<Partial<PruneOptions>>([
  { method: 'o-fang' },
  { metric: 'loss' },
  { allocation: 'taylor' },
  { gradientPower: 0.5 },
])('refuses what needs gradients, with advice that works: %j', async (options) => {
  const loaded = await strange;
  const prune = (more: Partial<PruneOptions>) => pruneLoaded(loaded, { sparsity: 0.4, ...more }, { windows });
  await expect(prune(options)).rejects.toThrow(UnsupportedModelError);
  await expect(prune(options)).rejects.toThrow(/Softsign.*: leave out what needs gradients.* flap, obc or wanda$/);
  for (const method of ['flap', 'obc', 'wanda']) expect((await prune({ method })).modules.length).toBeGreaterThan(0);
});

/** Mean of the curvature's diagonal at each module's output. */
async function meanCurvatures(ffn: Part): Promise<number[]> {
  const loaded = await loadTinyLlama(buildDecoder({ ffn, blockCount: 3 }));
  const measured = await measureDense(jobOf(loaded, { sparsity: 0.4 }));
  const curvatures = await Promise.all(measured.modules.map(({ index }) => measured.curvatures!.get(index)));
  await measured.dispose();
  return curvatures.map(({ data, dims: [size = 1] }) => {
    const trace = Array.from({ length: size }, (_, i) => Number(data[i * (size + 1)])).reduce((sum, x) => sum + x);
    return trace / size;
  });
}

it('estimates by noise what gradients tell of each module beside the others', async () => {
  /** The same with something in it that has no gradient rule, and comes to nothing. */
  const hidden: Part = (site, x) => {
    const nothing = site.g.op('Mul', [site.g.op('Softsign', [x]), site.g.scalar(0)]);
    return site.g.op('Add', [plainFfn(site, x), nothing]);
  };
  const [known, estimated] = [await meanCurvatures(plainFfn), await meanCurvatures(hidden)];
  const ratios = estimated.map((curvature, at) => Math.log(curvature / known[at]!));
  const middle = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
  expect(ratios).toHaveLength(6);
  for (const ratio of ratios) expect(Math.abs(ratio - middle)).toBeLessThan(Math.log(1.5));
  // Modules differ by twice that.
  expect(Math.max(...known) / Math.min(...known)).toBeGreaterThan(3);
});

it('rounds by what all tokens show alike', async () => {
  const grid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float32' } as const;
  const loaded = await strange;
  const planned = findWeights(loaded.model, loaded.analysed.tokenInput).map((weight) => ({ ...weight, grid }));
  const { roundings, remarks, wideCount } = await quantiseModel(
    jobOf(loaded, { sparsity: 0, batchSize: 1 }),
    planned,
    0.2,
  );
  expect(remarks).toContainEqual(expect.stringMatching(/^rounding learned from all tokens alike.*Softsign/));
  expect(wideCount).toBeGreaterThan(0);
  const costs = [...roundings.values()].map(({ chosen, nearest }) => chosen.cost / nearest.cost);
  expect(Math.min(...costs)).toBeLessThan(0.9);
});
