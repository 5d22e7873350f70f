import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { resolveHealing } from '../../src/options/healing.js';
import { resolveOptions } from '../../src/options.js';
import { healRounded } from '../../src/prune/heal-rounded.js';
import type { PruneJob } from '../../src/prune/job.js';
import { measureDivergences } from '../../src/prune/measure-divergences.js';
import { roundModel } from '../../src/prune/quantise-model.js';
import type { BlockGrid } from '../../src/quantisation/block-codes.js';
import { convertToHalf } from '../../src/quantisation/convert-floats.js';
import { findWeights } from '../../src/quantisation/find-weights.js';
import { withScalesInGraph } from '../../src/quantisation/scales-in-graph.js';
import { readCodes } from '../../src/quantisation/store-codes.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, VOCABULARY } from '../support/small-decoder.js';

const GRID: BlockGrid = { bits: 2, blockSize: 16, hasZeroPoints: false, scaleType: 'float16', castsScales: true };

const windows = Array.from({ length: 10 }, (_, step) =>
  Int32Array.from({ length: 16 }, (_, at) => (at * (2 * step + 3) + at * at * 5) % VOCABULARY),
);

async function prepare(grid: BlockGrid, inHalf = false) {
  const model = await loadModel(bytesSource('model.onnx', buildDecoder()), createMemoryFolder('none'));
  if (inHalf) convertToHalf(model, (await analyseModel(model, testEngine)).facts.first);
  const analysed = await analyseModel(model, testEngine);
  const job: PruneJob = {
    model,
    analysed,
    engine: testEngine,
    store: storeInMemory,
    createStore: createMemoryStore,
    windows: [],
    healing: { windows: windows.slice(0, 8), heldOut: windows.slice(8) },
    options: {
      ...resolveOptions({ sparsity: 0 }),
      heal: resolveHealing({ windowsPerStep: 2, passCount: 4, learningRate: 4e-3 }),
    },
  };
  const planned = findWeights(model, analysed.tokenInput).map((weight) => ({ ...weight, grid }));
  return { job, dense: { model, analysed }, quantised: await roundModel(job, planned) };
}

it.each<readonly [string, Partial<BlockGrid>, boolean]>([
  ['blocks of 2 bits', {}, false],
  ['zero points', { bits: 4, hasZeroPoints: true }, false],
  ['padded rows', { blockSize: 64 }, false],
  ['8 bits with zero points', { bits: 8, hasZeroPoints: true }, false],
  ['half precision', { scaleType: 'float16', castsScales: undefined }, true],
])('computes the same weights from codes and scales: %s', async (_, grid, inHalf) => {
  const { dense, quantised } = await prepare({ ...GRID, ...grid }, inHalf);
  const { model, scales } = withScalesInGraph(quantised.model, quantised.weights);
  expect(scales.size).toBe(quantised.weights.filter(({ lookups }) => lookups.length === 0).length);
  expect(scales.size).toBeGreaterThan(6);
  const scaled = { model, analysed: await analyseModel(model, testEngine) };
  const rounded = { model: quantised.model, analysed: dense.analysed };
  const [apart] = await measureDivergences(rounded, [scaled], { engine: testEngine, windows });
  expect(Math.abs(apart!)).toBeLessThan(1e-9);
  const [fromDense] = await measureDivergences(dense, [scaled], { engine: testEngine, windows });
  expect(fromDense).toBeGreaterThan(1e-7);
});

it('trains scales, norm scales and biases, and changes no code', async () => {
  const { job, dense, quantised } = await prepare(GRID);
  const healed = (await healRounded(job, { dense, quantised }))!;
  const { before, after } = healed.report.divergence;
  expect(after).toBeLessThan(0.8 * before);
  const { analysed } = dense;
  const compared = [quantised.model, healed.quantised.model].map((model) => ({ model, analysed }));
  const [rounded, trained] = await measureDivergences(dense, compared, {
    engine: testEngine,
    windows: windows.slice(8),
  });
  expect(rounded).toBeCloseTo(before, 4);
  expect(trained).toBeCloseTo(after, 2);
  const tables = new Set(quantised.weights.filter(({ lookups }) => lookups.length > 0).map(({ name }) => name));
  let moved = 0;
  for (const [at, { name, stored }] of healed.quantised.weights.entries()) {
    const [old, now] = [await readCodes(quantised.weights[at]!.stored), await readCodes(stored)];
    expect(now.codes).toEqual(old.codes);
    expect(stored.scales.dataType).toBe(quantised.weights[at]!.stored.scales.dataType);
    if (tables.has(name)) expect(now.scales).toEqual(old.scales);
    moved += now.scales.filter((scale, block) => scale !== old.scales[block]).length;
  }
  expect(moved).toBeGreaterThan(100);
  const coded = new Set(healed.quantised.weights.map(({ name }) => name));
  expect(healed.changed.size).toBeGreaterThan(0);
  expect([...healed.changed.keys()].filter((name) => coded.has(name))).toEqual([]);
});

it('trains nothing if training is to stop, and no checkpoint exists', async () => {
  const { job, dense, quantised } = await prepare(GRID);
  const stopped = { ...job, healing: { ...job.healing!, stop: true } };
  expect(await healRounded(stopped, { dense, quantised })).toBeUndefined();
});
