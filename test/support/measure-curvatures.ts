import { createCurvatureMeter } from '../../src/activations/curvature-meter.js';
import { walkBackwards } from '../../src/activations/walk-backwards.js';
import { blockSpans } from '../../src/architecture/layout.js';
import { resolveOptions } from '../../src/options.js';
import { measureForwards } from '../../src/prune/measure-dense/measure-forwards.js';
import { startContext } from '../../src/prune/prune-context.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import type { Batch } from '../../src/runtime/block-runner.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from './engine.js';
import type { Loaded } from './tiny-llama.js';

/** Curvatures of all modules from the batches chosen, block by block, after a pass forwards over all windows. */
export async function measureCurvatures(
  { model, analysed }: Loaded,
  windows: readonly Int32Array[],
  choose: (batch: Batch) => boolean = () => true,
): Promise<Float64Array[]> {
  const options = resolveOptions({ sparsity: 0.3, method: 'obc', metric: 'loss', batchSize: 2 });
  const job = {
    model,
    analysed,
    engine: testEngine,
    windows,
    options,
    store: storeInMemory,
    createStore: createMemoryStore,
  };
  const run = startContext(job);
  const { layout } = analysed.detected;
  const runner = await run.startRunner(model, { isFixed: true });
  const backwardPass = { batches: run.batches.filter(choose), archive: createMemoryStore() };
  const spans = blockSpans(layout);
  const needs = {
    blockChange: false,
    sensitivity: false,
    grouping: undefined,
    modules: layout.modules,
    curvatures: createMemoryStore(),
    order: undefined,
  };
  const passes = { needs, model, runner, backwardPass, kept: undefined, spans };
  await measureForwards(run, { ...passes, obstacle: undefined, dispose: async () => undefined });
  const meters = layout.modules.map((module) => ({ module, meter: createCurvatureMeter(module) }));
  await walkBackwards({
    engine: testEngine,
    model,
    analysed,
    ...backwardPass,
    spans,
    side: runner.side,
    cotangents: createMemoryStore(),
    metersOf: ({ first, last }) =>
      meters.filter(({ module }) => module.segment >= first && module.segment <= last).map(({ meter }) => meter),
  });
  await Promise.all([runner.dispose(), run.dispose()]);
  return meters.map(({ meter }) => meter.finish());
}
