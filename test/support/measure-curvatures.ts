import { type Backpropagation, backpropagate } from '../../src/activations/backpropagate.js';
import { createCurvatureMeter } from '../../src/activations/curvature-meter.js';
import { blockSpans } from '../../src/architecture/layout.js';
import { readModelInputs } from '../../src/onnx/model-inputs.js';
import { resolveOptions } from '../../src/options.js';
import { measureForwards } from '../../src/prune/measure-dense/measure-forwards.js';
import { createSparseArchive } from '../../src/prune/measure-dense/sparse-archive.js';
import { startContext } from '../../src/prune/prune-context.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import type { Batch } from '../../src/runtime/block-runner.js';
import { differentiateModel } from '../../src/runtime/differentiate-model.js';
import { prefillFeeds } from '../../src/runtime/prefill-feeds.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from './engine.js';
import { type Loaded, relativeGap } from './tiny-llama.js';

/** Curvatures of all modules from the chosen batches, block by block, after a forward pass over all windows. */
export async function measureCurvatures(
  { model, analysed }: Loaded,
  windows: readonly Int32Array[],
  choose: (batch: Batch) => boolean = () => true,
  { stride = 1, ...walk }: Partial<Pick<Backpropagation, 'engine' | 'mostLogits'>> & { readonly stride?: number } = {},
): Promise<Float64Array[]> {
  const options = resolveOptions({ sparsity: 0.3, method: 'obc', metric: 'loss' });
  const job = {
    model,
    analysed,
    engine: testEngine,
    windows,
    options,
    store: storeInMemory,
    createStore: createMemoryStore,
    tokensPerBatch: 2 * (windows[0]?.length ?? 1),
  };
  const run = startContext(job);
  const { layout } = analysed.detected;
  const runner = await run.startRunner(model, { isFixed: true });
  const spans = blockSpans(layout);
  const batches = run.batches.filter(choose);
  const archive = await createSparseArchive({ job, model, spans, batches, side: runner.side, stride });
  const backwardPass = { batches, archive, modules: layout.modules, lowest: 0 };
  const needs = {
    blockChange: false,
    sensitivity: false,
    grouping: undefined,
    modules: layout.modules,
    curvatures: createMemoryStore(),
    order: undefined,
  };
  const passes = { needs, model, runner, backwardPass, statisticsStore: undefined, spans };
  await measureForwards(run, { ...passes, obstacle: undefined, dispose: async () => undefined });
  const meters = layout.modules.map((module) => ({ module, meter: createCurvatureMeter(module) }));
  await backpropagate({
    engine: testEngine,
    model,
    analysed,
    ...backwardPass,
    spans,
    side: runner.side,
    cotangents: createMemoryStore(),
    metersOf: ({ first, last }) =>
      meters.filter(({ module }) => module.segment >= first && module.segment <= last).map(({ meter }) => meter),
    ...walk,
  });
  await Promise.all([runner.dispose(), run.dispose()]);
  return meters.map(({ meter }) => meter.finish());
}

/** The entire model's curvature at modules' outputs. */
export async function wholeCurvatures(
  { model, analysed }: Loaded,
  windows: readonly Int32Array[],
): Promise<Float64Array[]> {
  const { layout } = analysed.detected;
  const width = layout.hiddenSize;
  const linears = layout.modules.map(({ output, isNormalized }) => ({ ...output, isNormalized }));
  const size = { batchSize: 1, sequenceLength: windows[0]!.length };
  const wanted = linears.flatMap(({ input, result }) => [input, result]);
  const { bytes, gradients, tokens: name } = await differentiateModel({ model, analysed, wanted, ...size });
  const session = await testEngine.load(bytes);
  const sums = linears.map(() => new Float64Array(width * width));
  const totals = linears.map(() => 0);
  for (const window of windows) {
    const results = await session.run({
      ...prefillFeeds(readModelInputs(model.proto.graph!), size, window),
      [name]: { type: 'int64', dims: [1, window.length], data: BigInt64Array.from(window, BigInt) },
    });
    for (const [at, { input, result, inputCount, isNormalized }] of linears.entries()) {
      const [read, gradient] = [results[input]!, results[gradients.get(result)!]!].map(
        ({ data }) => data as Float32Array,
      );
      const energies = Array.from(window, (_, token) =>
        read!.subarray(token * inputCount, (token + 1) * inputCount).reduce((sum, value) => sum + value * value, 0),
      );
      const mean = Math.exp(energies.reduce((sum, energy) => sum + Math.log(energy), 0) / window.length);
      for (const [token, energy] of energies.entries()) {
        const weight = isNormalized ? Math.min(energy, mean / 4) : 1;
        const own = gradient!.subarray(token * width, (token + 1) * width);
        totals[at]! += weight;
        for (let i = 0; i < width; i += 1)
          for (let j = 0; j < width; j += 1) sums[at]![i * width + j]! += weight * own[i]! * own[j]!;
      }
    }
  }
  await session.release();
  return sums.map((sum, at) => sum.map((value) => value / totals[at]!));
}

/** Expects gradients computed block by block to equal those of the entire model, on two windows in one batch. */
export async function expectWholeGradients(loaded: Loaded, vocabularySize: number): Promise<void> {
  const windows = Array.from({ length: 2 }, (_, window) =>
    Int32Array.from({ length: 10 }, (__, at) => (window * 17 + at * at * 7 + at * 3) % vocabularySize),
  );
  const found = await measureCurvatures(loaded, windows);
  const expected = await wholeCurvatures(loaded, windows);
  for (const [at, matrix] of found.entries()) expect(relativeGap(matrix, expected[at]!)).toBeLessThan(1e-4);
}
