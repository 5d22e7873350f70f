import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { resolveOptions } from '../../src/options.js';
import type { PruneJob } from '../../src/prune/job.js';
import { quantiseModel, roundAgain } from '../../src/prune/quantise-model.js';
import type { BlockGrid } from '../../src/quantisation/block-codes.js';
import { findWeights } from '../../src/quantisation/find-weights.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, VOCABULARY } from '../support/small-decoder.js';

const GRID: BlockGrid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float32' };

it('learns roundings of linear layers, and rounds to nearest again on request', async () => {
  const model = await loadModel(bytesSource('model.onnx', buildDecoder()), createMemoryFolder('none'));
  const analysed = await analyseModel(model, testEngine);
  const job: PruneJob = {
    model,
    analysed,
    engine: testEngine,
    store: storeInMemory,
    createStore: createMemoryStore,
    tokensPerBatch: 1,
    windows: Array.from({ length: 6 }, (_, window) =>
      Int32Array.from({ length: 12 }, (_, at) => (at * (2 * window + 3) + at * at) % VOCABULARY),
    ),
    options: resolveOptions({ sparsity: 0 }),
  };
  const planned = findWeights(model, analysed.tokenInput).map((weight) => ({ ...weight, grid: GRID }));
  const quantised = await quantiseModel(job, planned);
  const { roundings, costs, weights, heldOut } = quantised;
  expect(roundings.size).toBeGreaterThan(5);
  // The LM head has no gradient: its cost is measured.
  const { cuts, stageOf } = analysed.detected.partition;
  const head = planned.find(({ products: [product] }) => product && stageOf.get(product.result) === cuts.length)!;
  expect([...costs.keys(), head.name].sort()).toEqual([...roundings.keys()].sort());
  const { chosen, nearest } = roundings.get(head.name)!;
  expect(chosen.cost).toBeLessThan(nearest.cost);
  expect(new Set(weights.map(({ name }) => name)).size).toBe(planned.length);
  expect(heldOut).toEqual([job.windows[5]]);
  // Learned roundings change to nearest, and no others.
  const again = await roundAgain(job, planned, quantised);
  expect(again.roundings.size).toBe(0);
  expect(again.weights.map(({ name }) => name).sort()).toEqual(weights.map(({ name }) => name).sort());
});
