import type { ChannelStatistics } from '../../src/compensation/adapter.js';
import { resolveRequest } from '../../src/options/request.js';
import { resolveOptions } from '../../src/options.js';
import type { PruneJob } from '../../src/prune/job.js';
import type { GradientWeights } from '../../src/prune/measure-dense/dense-measures.js';
import { weighByGradient } from '../../src/prune/measure-dense/gradient-weights.js';
import { startContext } from '../../src/prune/prune-context.js';
import { measureModules } from '../../src/prune/shrink/measure-modules.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { loadShortLlama } from '../support/short-llama.js';
import { type Loaded, pruneLoaded, someWindows } from '../support/tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadShortLlama();
});

const jobWith = (windows: readonly Int32Array[], gradientPower: number): PruneJob => ({
  ...loaded,
  engine: testEngine,
  windows,
  options: resolveOptions({ sparsity: 0.3, method: 'obc', modules: 'ffn', batchSize: 1, gradientPower }),
  store: storeInMemory,
  createStore: createMemoryStore,
});

const ffns = () => loaded.analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn');

async function weigh(power: number): Promise<Float64Array[]> {
  const job = jobWith(someWindows(3, 24), power);
  const { weights } = await weighByGradient(job, ffns());
  const { batches } = startContext(job);
  return ffns().map((module) => Float64Array.from(batches.flatMap((batch) => [...weights.of(module, batch)])));
}

const close = (values: Float64Array) => Array.from(values, (value) => expect.closeTo(value, 4) as unknown);
const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;

it('weighs tokens by the gradient to a power, with a mean of 1', async () => {
  const [whole, half] = [await weigh(1), await weigh(0.5)];
  for (const [at, weights] of whole.entries()) {
    expect(weights).toHaveLength(72);
    expect(mean(weights)).toBeCloseTo(1, 5);
    expect(Math.max(...weights)).toBeGreaterThan(2 * Math.min(...weights));
    const roots = weights.map(Math.sqrt);
    expect(Array.from(half[at]!, (weight) => weight * mean(roots))).toEqual(close(roots));
  }
});

async function measureFirst(windows: readonly Int32Array[], weights?: GradientWeights): Promise<ChannelStatistics> {
  const job = jobWith(windows, 0);
  const context = startContext(job);
  const runner = await context.startRunner(job.model, { isFixed: true });
  const [module] = ffns();
  try {
    while (runner.segment < module!.segment) await context.pass(runner);
    const modules = [module!];
    const request = { runner, modules, needs: 'gram', functional: new Map(), weights } as const;
    return (await measureModules(context, request))[0]![0]!;
  } finally {
    await runner.dispose();
    await context.dispose();
  }
}

it('sums over tokens as often as they count', async () => {
  const windows = someWindows(2, 24);
  const firstTwice = {
    of: (_: unknown, { index }: { index: number }) => new Float32Array(24).fill(index === 0 ? 2 : 0),
  };
  const [weighed, alone] = [await measureFirst(windows, firstTwice), await measureFirst(windows.slice(0, 1))];
  expect([...weighed.mean]).toEqual(close(alone.mean));
  expect([...weighed.variance]).toEqual(close(alone.variance));
  expect([...weighed.gram!]).toEqual(close(alone.gram!));
});

it.each([{ method: 'auto' }, { method: 'flap' }, { method: 'o-fang', grouping: { contextCount: 3 } }] as const)(
  'prunes by it: $method',
  async (method) => {
    const options = { ...method, sparsity: 0.4, modules: 'ffn' } as const;
    const keptBy = async (gradientPower: number) =>
      (await pruneLoaded(loaded, { ...options, gradientPower })).modules.map(({ keep }) => [...keep]);
    const [alike, weighed] = [await keptBy(0), await keptBy(1)];
    expect(weighed).not.toEqual(alike);
    expect(await keptBy(1)).toEqual(weighed);
  },
);

it('is refused where no token is weighed', () => {
  expect(() => resolveOptions({ sparsity: 0.3, method: 'magnitude', gradientPower: 1 })).toThrow(
    'gradientPower has no effect in this run: it goes with methods that look at tokens; leave it out',
  );
  const run = { model: 'm', out: 'o', sparsity: 0.3, statistics: 's', gradientPower: 1 };
  expect(() => resolveRequest(run)).toThrow('gradientPower has no effect with statistics');
});
