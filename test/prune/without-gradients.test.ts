import { UnsupportedModelError } from '../../src/errors.js';
import { type PruneOptions, resolveOptions } from '../../src/options.js';
import { refuseHealing } from '../../src/prune/heal.js';
import { measureDense } from '../../src/prune/measure-dense/measure-dense.js';
import { quantiseModel } from '../../src/prune/quantise-model.js';
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
const withoutGradient = loadTinyLlama(buildDecoder({ ffn: ffn('Softsign') }));

const windows = Array.from({ length: 6 }, (_, window) =>
  Int32Array.from({ length: 12 }, (_, at) => (at * (2 * window + 3) + at * at) % VOCABULARY),
);

const jobOf = ({ model, analysed }: Loaded, options: PruneOptions) => ({
  model,
  analysed,
  windows,
  engine: testEngine,
  store: storeInMemory,
  createStore: createMemoryStore,
  options: resolveOptions(options),
});

const NOTE =
  /^no gradient reaches (the modules|\d of \d modules), so that the cost of an error there.*: No gradient rule for operator Softsign/;

it.each<PruneOptions>([{ sparsity: 0.4 }, { sparsity: 0.4, modules: 'attention' }])(
  'prunes a model without gradients by the default method, with one remark: %j',
  async (options) => {
    const { outcome, maskedGap } = await checkPruning(await withoutGradient, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(outcome.remarks.filter((remark) => NOTE.test(remark))).toHaveLength(1);
    const removed = outcome.modules.filter(({ module, keep }) => keep.length < module.unitCount);
    expect(removed.length).toBeGreaterThan(0);
  },
);

it('refuses healing before it starts, and advises to prune without it', async () => {
  const { model, analysed } = await withoutGradient;
  expect(() => refuseHealing({ model, analysed })).toThrow(
    /operator Softsign .*; healing needs it\. Prune without healing/,
  );
  const sound = await loadTinyLlama(buildDecoder());
  expect(() => refuseHealing(sound)).not.toThrow();
});

it('prunes a model that outputs logits of one position only', async () => {
  const loaded = await loadTinyLlama(
    buildDecoder({ takeLast: (g, x) => g.op('ReduceMean', [x], { axes: [1], keepdims: 1 }) }),
  );
  const { modules, remarks } = await pruneLoaded(loaded, { sparsity: 0.4 }, { windows });
  expect(modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
  expect(remarks).toContainEqual(expect.stringMatching(/^no gradient reaches.*expected logits of every token/));
});

it.each<Partial<PruneOptions>>([{ method: 'o-fang' }, { metric: 'loss' }, { allocation: 'taylor' }])(
  'refuses options that need gradients, and names methods that do not: %j',
  async (options) => {
    const loaded = await withoutGradient;
    const pruning = pruneLoaded(loaded, { sparsity: 0.4, ...options }, { windows });
    await expect(pruning).rejects.toThrow(UnsupportedModelError);
    await expect(pruning).rejects.toThrow(/Softsign.*; do not use options that need gradients.* flap, obc or wanda$/);
  },
);

it.each(['flap', 'obc', 'wanda'])('prunes by a method that the error names: %s', async (method) => {
  const { modules } = await pruneLoaded(await withoutGradient, { sparsity: 0.4, method }, { windows });
  expect(modules.length).toBeGreaterThan(0);
});

/** Mean of the curvature's diagonal at each module's output. */
async function meanCurvatures(ffn: Part): Promise<number[]> {
  const loaded = await loadTinyLlama(buildDecoder({ ffn, blockCount: 3 }));
  const curvatures = await curvaturesOf(loaded);
  return curvatures.map(({ data, dims: [size = 1] }) => {
    const trace = Array.from({ length: size }, (_, i) => Number(data[i * (size + 1)])).reduce((sum, x) => sum + x);
    return trace / size;
  });
}

async function curvaturesOf(loaded: Loaded) {
  const measured = await measureDense(jobOf(loaded, { sparsity: 0.4 }));
  try {
    // The store may reuse the memory of what it returned.
    return await Promise.all(
      measured.modules.map(async ({ index }) => {
        const { dims, data } = await measured.curvatures!.get(index);
        return { dims, data: Array.from(data, Number) };
      }),
    );
  } finally {
    await measured.dispose();
  }
}

/** Zeros by an operator without a gradient rule. */
const nothing: Part = ({ g }, x) => g.op('Mul', [g.op('Softsign', [x]), g.scalar(0)]);

it('estimates the relative curvatures of modules by noise within a factor of 1.5', async () => {
  const hidden: Part = (site, x) => site.g.op('Add', [plainFfn(site, x), nothing(site, x)]);
  const [known, estimated] = [await meanCurvatures(plainFfn), await meanCurvatures(hidden)];
  const ratios = estimated.map((curvature, at) => Math.log(curvature / known[at]!));
  const middle = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
  expect(ratios).toHaveLength(6);
  for (const ratio of ratios) expect(Math.abs(ratio - middle)).toBeLessThan(Math.log(1.5));
  // Modules differ by twice that.
  expect(Math.max(...known) / Math.min(...known)).toBeGreaterThan(3);
});

it('remarks that a form of an operator has no gradient', async () => {
  const ffn: Part = (site, x) => {
    const { g, block } = site;
    if (block !== 1) return plainFfn(site, x);
    const normed = g.op('LpNormalization', [x], { p: 1, axis: -1 });
    return g.op('Add', [plainFfn(site, x), g.op('Mul', [normed, g.scalar(0)])]);
  };
  const loaded = await loadTinyLlama(buildDecoder({ ffn, blockCount: 3 }));
  const { remarks } = await pruneLoaded(loaded, { sparsity: 0.4 }, { windows });
  expect(remarks).toContainEqual(
    expect.stringMatching(/^no gradient reaches 4 of 6 modules.*LpNormalization.*is not the Euclidean one/),
  );
});

describe('a model with an operator without gradient in its second block', () => {
  const BLOCKS = 3;
  const inBlock =
    (block: number): Part =>
    (site, x) =>
      site.block === block ? site.g.op('Add', [plainFfn(site, x), nothing(site, x)]) : plainFfn(site, x);
  const [whole, partial] = [-1, 1].map((block) =>
    loadTinyLlama(buildDecoder({ ffn: inBlock(block), blockCount: BLOCKS })),
  ) as [Promise<Loaded>, Promise<Loaded>];

  it('uses gradients where they reach, and estimates of their scale elsewhere', async () => {
    const [known, found] = [await curvaturesOf(await whole), await curvaturesOf(await partial)];
    // Both parts of the first block, and the attention of the second.
    const estimated = [0, 1, 2];
    expect(known).toHaveLength(2 * BLOCKS);
    for (const [at, { data, dims }] of found.entries()) {
      if (!estimated.includes(at)) {
        expect(data).toEqual(known[at]!.data);
        continue;
      }
      const size = dims[0]!;
      const trace = ({ data }: { readonly data: readonly number[] }) =>
        Array.from({ length: size }, (_, i) => data[i * (size + 1)]!).reduce((sum, x) => sum + x);
      expect(Math.abs(Math.log(trace({ data }) / trace(known[at]!)))).toBeLessThan(Math.log(2));
    }
  });

  it('is pruned by the default method, with one remark about modules without gradients', async () => {
    const { outcome, maskedGap } = await checkPruning(await partial, { sparsity: 0.4 }, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(outcome.remarks.filter((remark) => /gradient/.test(remark))).toEqual([
      expect.stringMatching(/^no gradient reaches 3 of 6 modules, so that the cost of an error there.*Softsign/),
    ]);
  });

  it('is rounded no worse than to nearest, with one remark about layers without gradients', async () => {
    const grid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float32' } as const;
    const quantise = async (loaded: Loaded) => {
      const planned = findWeights(loaded.model, loaded.analysed.tokenInput).map((weight) => ({ ...weight, grid }));
      return quantiseModel({ ...jobOf(loaded, { sparsity: 0 }), tokensPerBatch: 1 }, planned);
    };
    const { roundings, remarks } = await quantise(await partial);
    expect(remarks).toEqual([
      expect.stringMatching(
        /^rounding weighted all tokens equally, since no gradient reaches \d+ of \d+ linear layers.*Softsign/,
      ),
    ]);
    expect(roundings.size).toBeGreaterThan(0);
    for (const { chosen, nearest } of roundings.values()) expect(chosen.cost).toBeLessThanOrEqual(nearest.cost);
  });
});

it('rounds with equally weighted tokens without gradients', async () => {
  const grid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float32' } as const;
  const loaded = await withoutGradient;
  const planned = findWeights(loaded.model, loaded.analysed.tokenInput).map((weight) => ({ ...weight, grid }));
  const job = { ...jobOf(loaded, { sparsity: 0 }), tokensPerBatch: 1 };
  const { roundings, remarks } = await quantiseModel(job, planned);
  expect(remarks).toContainEqual(expect.stringMatching(/^rounding weighted all tokens equally.*Softsign/));
  const costs = [...roundings.values()].map(({ chosen, nearest }) => chosen.cost / nearest.cost);
  expect(Math.min(...costs)).toBeLessThan(0.9);
});
