import { copyModel, setWeight } from '../../src/onnx/edit-weights.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { floatsHandle } from '../../src/onnx/tensor-handle.js';
import { resolveOptions } from '../../src/options.js';
import { checkAgainstDense } from '../../src/prune/check-against-dense.js';
import type { PruneJob } from '../../src/prune/job.js';
import { roundModel } from '../../src/prune/quantise-model.js';
import type { QuantisedModel } from '../../src/prune/quantised-model.js';
import type { BlockGrid } from '../../src/quantisation/block-codes.js';
import { findWeights } from '../../src/quantisation/find-weights.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, VOCABULARY } from '../support/small-decoder.js';

const GRID: BlockGrid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float32' };

async function prepare() {
  const model = await loadModel(bytesSource('model.onnx', buildDecoder()), createMemoryFolder('none'));
  const analysed = await analyseModel(model, testEngine);
  const job: PruneJob = {
    model,
    analysed,
    engine: testEngine,
    store: storeInMemory,
    createStore: createMemoryStore,
    windows: [3, 5, 7].map((step) => Int32Array.from({ length: 12 }, (_, at) => (at * step + at * at) % VOCABULARY)),
    options: resolveOptions({ sparsity: 0 }),
  };
  const planned = findWeights(model, analysed.tokenInput).map((weight) => ({ ...weight, grid: GRID }));
  const rounded = await roundModel(job, planned);
  const { name } = planned.find(({ products }) => products.length > 0)!;
  const roundings = new Map([[name, { chosen: { dampening: 0.1, cost: 1 }, nearest: { cost: 2 } }]]);
  const learned: QuantisedModel = { ...rounded, roundings, heldOut: job.windows.slice(2) };
  return { job, planned, learned, name, dense: { model, analysed } };
}

it('keeps learned codes if the model is no farther from the dense one', async () => {
  const { job, planned, learned, dense } = await prepare();
  const { quantised, cost } = await checkAgainstDense(job, { dense, planned, quantised: learned });
  expect(quantised).toBe(learned);
  expect(cost).toMatchObject({ windowCount: 1, pruning: 0 });
  expect(cost!.quantising).toBeGreaterThan(0);
  expect(cost!.nearest).toBeCloseTo(cost!.quantising, 9);
});

it('rounds to nearest if learned codes are worse for the whole model', async () => {
  const { job, planned, learned, dense, name } = await prepare();
  const model = copyModel(learned.model);
  const { dims } = model.weights.get(name)!;
  const noise = Float32Array.from({ length: dims[0]! * dims[1]! }, (_, at) => Math.sin(at * 7) * 4);
  setWeight(model, name, floatsHandle({ dataType: 1, dims }, noise));
  const { quantised, cost } = await checkAgainstDense(job, { dense, planned, quantised: { ...learned, model } });
  expect(quantised.roundings.size).toBe(0);
  expect(quantised.weights.length).toBe(planned.length);
  expect(quantised.remarks.join()).toMatch(/^every weight was rounded to nearest: this costs [\d.e-]+ nats/);
  expect(cost!.nearest).toBeUndefined();
  const plain = await checkAgainstDense(job, { dense, planned, quantised: { ...learned, roundings: new Map() } });
  expect(cost!.quantising).toBeCloseTo(plain.cost!.quantising, 9);
});

it('reports the cost of pruning before quantisation', async () => {
  const { job, planned, learned, dense, name } = await prepare();
  const pruned = copyModel(job.model);
  const { dims } = pruned.weights.get(name)!;
  setWeight(pruned, name, floatsHandle({ dataType: 1, dims }, new Float32Array(dims[0]! * dims[1]!)));
  const { cost } = await checkAgainstDense({ ...job, model: pruned }, { dense, planned, quantised: learned });
  expect(cost!.pruning).toBeGreaterThan(0);
  expect(cost!.pruning + cost!.quantising).toBeGreaterThan(0);
});
