import { createAdapter, METHODS, type MethodName } from '../src/compensation/methods.js';
import { OptionError } from '../src/errors.js';
import { createLanguageModel } from '../src/evaluation/session-language-model.js';
import { createSpillFile } from '../src/node/spill-file.js';
import type { MethodChoice, PruneOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import type { Tensor } from '../src/runtime/engine.js';
import { createMemoryStore, createSpilledStore } from '../src/runtime/tensor-store.js';
import { testEngine } from './support/engine.js';
import { gapToMasked as gapToDenseMasked } from './support/masked.js';
import { loadFusedLlama, loadShortLlama } from './support/short-llama.js';
import { bytesOf, type Loaded, pruneLoaded, relativeGap, runModel, someWindows } from './support/tiny-llama.js';

let loaded: Loaded;
/** All six blocks, for tests in which some are not pruned. */
let whole: Loaded;
beforeAll(async () => {
  loaded = await loadShortLlama();
  whole = await loadFusedLlama();
});

/** Remaining units by block, of one kind of module. */
const keptCounts = ({ modules }: PruneOutcome, kind: 'ffn' | 'attention') =>
  modules.filter(({ module }) => module.kind === kind).map(({ keep }) => keep.length);

const evaluationWindows = someWindows(2, 16);
const logitsOf = async (model: Loaded['model']) =>
  (await runModel(model, evaluationWindows)).logits!.data as Float32Array;
const gapToMasked = (outcome: PruneOutcome) => gapToDenseMasked(loaded, outcome);

describe('every method', () => {
  const methods: readonly (readonly [string, MethodChoice])[] = [
    ...(Object.keys(METHODS) as MethodName[]).map((name) => [name, name] as const),
    ['flap IFV', createAdapter('flap', { fluctuation: 'IFV' })],
    ['flap WIFN', createAdapter('flap', { fluctuation: 'WIFN' })],
    ['a formula', ({ statistics, unitCount }) => statistics.variance.subarray(0, unitCount)],
  ];
  it.each(methods)('%s removes the requested number of units', async (_, method) => {
    const outcome = await pruneLoaded(loaded, { sparsity: 0.3, method, allocation: 'uniform' });
    expect(keptCounts(outcome, 'ffn')).toEqual(Array(2).fill(179));
    expect(keptCounts(outcome, 'attention')).toEqual(Array(2).fill(6));
    expect((await logitsOf(outcome.model)).every(Number.isFinite)).toBe(true);
  });

  it.each(['flap', 'obc', 'wanda'])('%s equals the masked original', async (method) => {
    expect(await gapToMasked(await pruneLoaded(loaded, { sparsity: 0.5, method }))).toBeLessThan(1e-4);
  });
});

describe('sparsity', () => {
  const options = (more: Partial<PruneOptions>): PruneOptions => ({ sparsity: 0.3, method: 'random', ...more });

  it('changes no byte at 0', async () => {
    const outcome = await pruneLoaded(loaded, { sparsity: 0 });
    expect(outcome.modules).toEqual([]);
    expect(Buffer.compare(await bytesOf(outcome.model), await bytesOf(loaded.model))).toBe(0);
  });

  it.each([0.1, 0.25, 0.5, 0.75])('is met at %d in every module, to one step', async (sparsity) => {
    const outcome = await pruneLoaded(loaded, options({ sparsity }));
    for (const kept of keptCounts(outcome, 'ffn')) {
      expect(kept).toBeGreaterThanOrEqual(1);
      expect(Math.abs(256 - kept - sparsity * 256)).toBeLessThanOrEqual(1);
    }
    for (const kept of keptCounts(outcome, 'attention')) {
      expect(kept % 2).toBe(0);
      expect(Math.abs(8 - kept - sparsity * 8)).toBeLessThanOrEqual(2);
    }
  });

  it.each([
    ['ffn', 2, 0],
    ['attention', 0, 2],
  ] as const)('prunes only modules of kind %s', async (modules, ffnCount, attentionCount) => {
    const outcome = await pruneLoaded(loaded, options({ modules, sparsity: 0.5 }));
    expect(keptCounts(outcome, 'ffn')).toHaveLength(ffnCount);
    expect(keptCounts(outcome, 'attention')).toHaveLength(attentionCount);
  });

  it('rounds FFN widths to widthMultiple', async () => {
    const outcome = await pruneLoaded(loaded, options({ widthMultiple: 64, modules: 'ffn' }));
    expect(keptCounts(outcome, 'ffn')).toEqual(Array(2).fill(192));
  });

  it('skips blocks and removes more of the others', async () => {
    const outcome = await pruneLoaded(whole, options({ blockSparsity: { 0: 0, 5: 0 }, modules: 'ffn' }));
    expect(outcome.modules.map(({ module }) => module.block)).toEqual([1, 2, 3, 4]);
    const removed = keptCounts(outcome, 'ffn').reduce((sum, kept) => sum + 512 - kept, 0);
    expect(Math.abs(removed - 0.3 * 6 * 512)).toBeLessThanOrEqual(4);
  });

  it('accepts sparsities by block and kind', async () => {
    const blockSparsity = { 2: 0.75, 3: { ffn: 0.5 } };
    const outcome = await pruneLoaded(whole, options({ modules: 'ffn', blockSparsity }));
    const kept = keptCounts(outcome, 'ffn');
    expect(kept.slice(2, 4)).toEqual([128, 256]);
    expect(new Set([kept[0], kept[1], kept[4], kept[5]]).size).toBe(1);
    expect(Math.abs(kept.reduce((sum, width) => sum + width, 0) - 0.7 * 6 * 512)).toBeLessThanOrEqual(6);
  });

  it('lets KV heads differ between blocks only with perBlockKvHeads', async () => {
    const uneven = options({ modules: 'attention', sparsity: 0.4, blockSparsity: { 0: 0.5 } });
    await expect(pruneLoaded(loaded, uneven)).rejects.toThrow(OptionError);
    await expect(pruneLoaded(loaded, uneven)).rejects.toThrow(/perBlockKvHeads/);
    const outcome = await pruneLoaded(loaded, { ...uneven, perBlockKvHeads: true });
    expect(keptCounts(outcome, 'attention')).toEqual([4, 6]);
    const cache = outcome.model.proto.graph!.input.filter(({ name }) => name.startsWith('past_key_values'));
    const kvHeads = cache.map(({ type }) =>
      type?.value.case === 'tensorType' ? Number(type.value.value.shape?.dim[1]?.value.value) : undefined,
    );
    expect(kvHeads).toEqual([2, 2, 3, 3]);
    expect(await gapToMasked(outcome)).toBeLessThan(1e-4);
  });

  it('removes one query head of every group with headUnit "query"', async () => {
    const outcome = await pruneLoaded(loaded, options({ modules: 'attention', headUnit: 'query', sparsity: 0.5 }));
    for (const { keep } of outcome.modules) expect([...keep].map((head) => Math.floor(head / 2))).toEqual([0, 1, 2, 3]);
    expect(await gapToMasked(outcome)).toBeLessThan(1e-4);
  });

  it('is met over all blocks and kinds with standardised scores, heads evenly', async () => {
    const outcome = await pruneLoaded(loaded, { sparsity: 0.3, method: 'flap', allocation: 'standardised' });
    const { modules } = loaded.analysed.detected.layout;
    const prunable = modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
    const removed = outcome.modules.reduce((sum, { module, keep }) => {
      const units = module.unitCount - keep.length;
      const groups = module.groupCount === undefined ? 0 : units / (module.unitCount / module.groupCount);
      return sum + units * module.parametersPerUnit + groups * module.parametersPerGroup;
    }, 0);
    expect(removed / prunable).toBeCloseTo(0.3, 3);
    expect(new Set(keptCounts(outcome, 'attention')).size).toBeLessThanOrEqual(1);
    expect(new Set(keptCounts(outcome, 'ffn')).size).toBeGreaterThan(1);
  });

  it('refuses blocks that do not exist, and budgets that cannot be met', async () => {
    await expect(pruneLoaded(loaded, options({ blockSparsity: { 2: 0 } }))).rejects.toThrow(
      /blockSparsity names block 2; the model has blocks 0\.\.1/,
    );
    const skipping = options({ modules: 'ffn', sparsity: 0.5, blockSparsity: { 0: 0 } });
    await expect(pruneLoaded(loaded, skipping)).rejects.toThrow(OptionError);
    // Every block keeps a KV group and a neuron.
    await expect(pruneLoaded(loaded, options({ sparsity: 0.999 }))).rejects.toThrow(/at most 89\.\d+ % can be removed/);
  });
});

describe('a run', () => {
  it.each(['flap', 'random'])('gives the same bytes with the same seed (%s)', async (method) => {
    const run = async (seed: number) =>
      bytesOf((await pruneLoaded(loaded, { sparsity: 0.3, method, seed, modules: 'ffn' })).model);
    const first = await run(7);
    expect(Buffer.compare(await run(7), first)).toBe(0);
    if (method === 'random') expect(Buffer.compare(await run(8), first)).not.toBe(0);
  });

  it('gives the same bytes with hidden states in memory and on disk', async () => {
    const file = await createSpillFile();
    try {
      const inMemory = await pruneLoaded(loaded, { sparsity: 0.3, method: 'flap' });
      const onDisk = await pruneLoaded(
        loaded,
        { sparsity: 0.3, method: 'flap' },
        { createStore: () => createSpilledStore(file) },
      );
      expect(Buffer.compare(await bytesOf(onDisk.model), await bytesOf(inMemory.model))).toBe(0);
    } finally {
      await file.dispose();
    }
  });

  it.each<Partial<PruneOptions>>([{ method: 'obc', allocation: 'adaptive' }, { method: 'o-fang' }])(
    'stores no more hidden states than its store was created for (%j)',
    async (options) => {
      const createStore = (windowCount: number, blockCount = 1) => {
        const states = createMemoryStore();
        return {
          ...states,
          put: (batch: number, tensor: Tensor) => {
            const room = windowCount * blockCount;
            if (batch >= room) throw new RangeError(`window ${batch} of ${room}`);
            return states.put(batch, tensor);
          },
        };
      };
      const outcome = await pruneLoaded(loaded, { sparsity: 0.3, ...options }, { createStore, tokensPerBatch: 1 });
      expect(outcome.dense.blockChange?.every((change) => change > 0)).toBe(true);
    },
  );

  it('does not change the given model', async () => {
    await pruneLoaded(loaded, { sparsity: 0.5, method: 'flap' });
    const again = await loadShortLlama();
    expect(Buffer.compare(await bytesOf(loaded.model), await bytesOf(again.model))).toBe(0);
  });

  it('chooses the same units for any number of windows per batch, up to rounding', async () => {
    const keeps = async (tokensPerBatch: number) =>
      (await pruneLoaded(loaded, { sparsity: 0.3, method: 'flap' }, { tokensPerBatch })).modules.map(
        ({ keep }) => new Set(keep),
      );
    const [one, four] = [await keeps(1), await keeps(4 * 24)];
    const differing = one.flatMap((keep, at) => [...keep].filter((unit) => !four[at]!.has(unit)));
    expect(differing.length).toBeLessThanOrEqual(2);
  });
});

it('reports ascending progress up to its total, and times of every stage', async () => {
  const seen: { done: number; total: number }[] = [];
  const outcome = await pruneLoaded(loaded, {
    sparsity: 0.3,
    method: 'flap',
    onProgress: (progress) => seen.push(progress),
  });
  const { done, total } = seen.at(-1)!;
  expect(done).toBeLessThanOrEqual(total);
  expect(done).toBeGreaterThan(0.8 * total);
  expect(seen.every((step, at) => at === 0 || step.done >= seen[at - 1]!.done)).toBe(true);
  expect(outcome.timings.map(({ stage }) => stage).sort()).toEqual([
    'advance',
    'measure',
    'output error',
    'repair',
    'score',
  ]);
});

it.each([1, 5, 12])('stops when it is aborted at progress event %d', async (at) => {
  const controller = new AbortController();
  let seen = 0;
  const onProgress = () => {
    seen += 1;
    if (seen === at) controller.abort(new Error('enough'));
  };
  const job = pruneLoaded(
    loaded,
    { sparsity: 0.3, method: 'flap', onProgress, signal: controller.signal },
    { tokensPerBatch: 1 },
  );
  await expect(job).rejects.toThrow('enough');
  expect(seen).toBe(at);
});

it('computes the same token by token with the cache as in one pass', async () => {
  const { model } = await pruneLoaded(loaded, { sparsity: 0.4, method: 'flap' });
  const language = await createLanguageModel({
    engine: testEngine,
    session: await testEngine.load(await bytesOf(model)),
  });
  try {
    const windows = someWindows(2, 20);
    const reader = language.createReader();
    for (let at = 0; at < 20; at += 1) {
      const stepped = await reader.read(windows.map((window) => window.subarray(at, at + 1)));
      const whole = await language.createReader().read(windows.map((window) => window.subarray(0, at + 1)));
      expect(relativeGap(stepped, whole)).toBeLessThan(1e-5);
    }
  } finally {
    await language.release();
  }
});
