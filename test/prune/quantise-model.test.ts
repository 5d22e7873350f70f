import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { resolveOptions } from '../../src/options.js';
import type { PruneJob } from '../../src/prune/job.js';
import { quantiseModel } from '../../src/prune/quantise/quantise-model.js';
import type { BlockGrid } from '../../src/quantisation/block-codes.js';
import { findWeights } from '../../src/quantisation/find-weights.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, VOCABULARY } from '../support/small-decoder.js';

const GRID: BlockGrid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float32' };

it('gives eight bits to some maps, and learns how the others are rounded', async () => {
  const model = await loadModel(bytesSource('model.onnx', buildDecoder()), createMemoryFolder('none'));
  const analysed = await analyseModel(model, testEngine);
  const job: PruneJob = {
    ...{ model, analysed, engine: testEngine, store: storeInMemory, createStore: createMemoryStore, tokensPerBatch: 1 },
    windows: Array.from({ length: 6 }, (_, window) =>
      Int32Array.from({ length: 12 }, (_, at) => (at * (2 * window + 3) + at * at) % VOCABULARY),
    ),
    options: resolveOptions({ sparsity: 0 }),
  };
  const planned = findWeights(model, analysed.tokenInput).map((weight) => ({ ...weight, grid: GRID }));
  const plain = await quantiseModel(job, planned);
  const { wideCount, roundings, weights, heldOut } = await quantiseModel(job, planned, { wideShare: 0.2 });
  expect(plain.wideCount).toBe(0);
  expect(plain.roundings.size).toBeGreaterThan(5);
  expect(wideCount).toBeGreaterThan(0);
  expect(roundings.size).toBe(plain.roundings.size - wideCount);
  expect(weights.filter(({ stored }) => stored.grid.bits === 8).length).toBe(wideCount);
  expect(new Set(weights.map(({ name }) => name)).size).toBe(planned.length);
  expect(heldOut).toEqual([job.windows[5]]);
  for (const [name, rounding] of roundings) expect(rounding).toEqual(plain.roundings.get(name));
});
