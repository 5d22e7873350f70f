import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTokenizer } from '../src/calibration/tokenizer.js';
import { createAdapter, METHODS, type MethodName } from '../src/compensation/methods.js';
import { type PruneOptions, resolveOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { measureDense } from '../src/prune/measure-dense/measure-dense.js';
import { storeInMemory } from '../src/removal/repair-linear.js';
import { createMemoryStore } from '../src/runtime/tensor-store.js';
import { testEngine } from './support/engine.js';
import { loadFusedLlama, loadShortLlama } from './support/short-llama.js';
import { bytesOf, type Loaded, meanLoss, pruneLoaded, someWindows, TINY_LLAMA } from './support/tiny-llama.js';

let loaded: Loaded;
let short: Loaded;
/** All six blocks, pruned on prose. */
let whole: PruneOutcome;
let prose: readonly Int32Array[];
beforeAll(async () => {
  [loaded, short, prose] = [await loadFusedLlama(), await loadShortLlama(), await windowsOf('prose', 8)];
  whole = await pruneLoaded(loaded, auto({ modules: 'ffn' }), { windows: prose });
});

const auto = (more: Partial<PruneOptions> = {}): PruneOptions => ({ sparsity: 0.3, method: 'auto', ...more });
const removedParameters = ({ modules }: PruneOutcome): number =>
  modules.reduce((sum, { module, keep }) => {
    const units = module.unitCount - keep.length;
    const groups = module.groupCount === undefined ? 0 : units / (module.unitCount / module.groupCount);
    return sum + units * module.parametersPerUnit + groups * module.parametersPerGroup;
  }, 0);
const widths = ({ modules }: PruneOutcome) =>
  modules.filter(({ module }) => module.kind === 'ffn').map(({ keep }) => keep.length);

async function windowsOf(text: string, count: number): Promise<Int32Array[]> {
  const read = (name: string) => readFileSync(join(TINY_LLAMA, name), 'utf8');
  const tokenizer = createTokenizer(JSON.parse(read('tokenizer.json')), JSON.parse(read('tokenizer_config.json')));
  const ids = Int32Array.from(tokenizer.encode(read(`text/${text}.txt`).slice(0, 12_000)));
  return Array.from({ length: count }, (_, window) => ids.slice(window * 128, (window + 1) * 128));
}

it.each(['ffn', 'all'] as const)('meets the budget to one channel over the whole model (%s)', async (modules) => {
  for (const sparsity of [0.15, 0.4]) {
    const outcome = await pruneLoaded(short, auto({ modules, sparsity }));
    const kinds = modules === 'all' ? ['ffn', 'attention'] : ['ffn'];
    const prunable = short.analysed.detected.layout.modules.filter(({ kind }) => kinds.includes(kind));
    const total = prunable.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
    const neuron = prunable.find(({ kind }) => kind === 'ffn')!.parametersPerUnit;
    expect(Math.abs(removedParameters(outcome) - sparsity * total)).toBeLessThanOrEqual(neuron);
  }
});

it('gives blocks different widths, and respects minimumWidth and widthMultiple', async () => {
  expect(new Set(widths(whole)).size).toBeGreaterThan(3);
  const outcome = await pruneLoaded(
    short,
    auto({ modules: 'ffn', sparsity: 0.5, minimumWidth: 0.45, widthMultiple: 32 }),
  );
  for (const width of widths(outcome)) {
    expect(width % 32).toBe(0);
    expect(width).toBeGreaterThanOrEqual(0.45 * 256);
  }
  expect(Math.abs(widths(outcome).reduce((sum, width) => sum + width, 0) - 0.5 * 2 * 256)).toBeLessThanOrEqual(32);
});

it('has a lower loss than OBC on unseen windows', async () => {
  const unseen = await windowsOf('german', 4);
  const plain = await pruneLoaded(loaded, { sparsity: 0.3, method: 'obc', modules: 'ffn' }, { windows: prose });
  expect(await meanLoss(whole.model, unseen)).toBeLessThan(await meanLoss(plain.model, unseen));
});

it.each(Object.keys(METHODS) as MethodName[])(
  'prunes by metric loss and allocation global with method %s',
  async (method) => {
    const outcome = await pruneLoaded(short, { sparsity: 0.3, method, metric: 'loss', allocation: 'global' });
    expect(outcome.model.weights.size).toBeGreaterThan(0);
    expect(removedParameters(outcome)).toBeGreaterThan(0);
  },
);

it('has the costs of single removals in steps of 32, within 2 %, ascending', async () => {
  const ordersOf = async (step: number) => {
    const options = resolveOptions(auto({ modules: 'ffn' }));
    const observed = await measureDense({
      ...short,
      engine: testEngine,
      windows: someWindows(16, 48),
      options: { ...options, orderAdapter: createAdapter('obc', { dampening: 0.1, step }) },
      store: storeInMemory,
      createStore: createMemoryStore,
    });
    await observed.dispose();
    return [...observed.dense.orders!.values()].map(({ costs }) => costs);
  };
  const [steps, single] = [await ordersOf(32), await ordersOf(1)];
  steps.forEach((costs, block) => {
    expect(costs.every((cost, at) => at === 0 || cost >= costs[at - 1]!)).toBe(true);
    for (const count of [64, 128, 192]) {
      const total = (list: Float64Array) => list.subarray(0, count).reduce((sum, cost) => sum + cost, 0);
      expect(total(costs) / total(single[block]!)).toBeGreaterThan(0.98);
      expect(total(costs) / total(single[block]!)).toBeLessThan(1.02);
    }
  });
});

it('gives the same bytes for the same seed', async () => {
  const [first, second] = [await pruneLoaded(short, auto()), await pruneLoaded(short, auto())];
  expect(Buffer.compare(await bytesOf(first.model), await bytesOf(second.model))).toBe(0);
});
