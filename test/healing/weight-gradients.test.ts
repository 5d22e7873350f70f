import { differentiate } from '../../src/healing/differentiate.js';
import { healModel } from '../../src/healing/heal-model.js';
import { startTraining } from '../../src/healing/start-training.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { expectSlopes, findFlat } from '../support/expect-slopes.js';
import { buildSharing } from '../support/sharing-decoder.js';
import { loadFusedLlama } from '../support/short-llama.js';
import { VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, pruneLoaded, someWindows } from '../support/tiny-llama.js';

/** Length of the step along a weight's gradient that the loss is measured at, on both sides. */
const STEP = 2e-3;

it('equals the slope of the loss for weights of the first and last block, and shared ones', async () => {
  const teacher = await loadFusedLlama();
  const { model } = await pruneLoaded(teacher, { sparsity: 0.4, method: 'flap', modules: 'ffn' });
  // Blocks 1 and 2 share their norms from here on.
  for (const node of model.proto.graph!.node)
    node.input = node.input.map((name) =>
      name.replace('model.layers.2.input_layernorm', 'model.layers.1.input_layernorm'),
    );
  const student = { model, analysed: await analyseModel(model, testEngine) };
  const windows = someWindows(4, 16);
  const training = await startTraining({
    engine: testEngine,
    teacher,
    student,
    windows,
    heldOut: windows,
    settings: { trained: 'all', windowsPerStep: 4, passCount: 1, learningRate: undefined },
    createStore: createMemoryStore,
    store: storeInMemory,
  });
  const { groups, steps } = training;
  const [batches = []] = steps;
  await differentiate(training, batches, 'gradient');
  expect(groups.all[groups.shared]!.weights.map(({ name }) => name)).toEqual(['model.layers.1.input_layernorm.weight']);
  for (const group of [0, 5, groups.shared])
    await expectSlopes(training, { group, weights: groups.all[group]!.weights, stepOf: () => STEP });
  await training.dispose();
});

it.each([
  ['copied for their query heads', {}],
  ['read from the cache', { shares: 'cache' }],
  ['in as many heads as queries', { kvHeads: 4 }],
] as const)('passes through keys and values that several blocks read, %s, and heals', async (_, shape) => {
  const teacher = await loadTinyLlama(buildSharing(shape));
  const windows = someWindows(6, 16).map((window) => window.map((token) => token % VOCABULARY));
  const { model } = await pruneLoaded(teacher, { sparsity: 0.4, method: 'flap' }, { windows });
  const student = { model, analysed: await analyseModel(model, testEngine) };
  const given = {
    engine: testEngine,
    teacher,
    student,
    windows: windows.slice(0, 4),
    heldOut: windows.slice(4),
    createStore: createMemoryStore,
    store: storeInMemory,
  };
  const settings = { trained: 'all', windowsPerStep: 4, passCount: 1, learningRate: undefined } as const;
  const training = await startTraining({ ...given, settings });
  const { groups, steps } = training;
  await differentiate(training, steps[0]!, 'gradient');
  // The last two blocks have no projections of keys and values.
  expect(groups.all.slice(0, 4).map(({ weights }) => weights.length)).toEqual([18, 18, 14, 14]);
  const flat: number[] = [];
  for (const group of groups.all.keys()) {
    const own = await findFlat(training, group);
    flat.push(own.length);
    await expectSlopes(training, {
      group,
      weights: groups.all[group]!.weights.filter((weight) => !own.includes(weight)),
      stepOf: (weight) => 1e-3 * Math.hypot(...weight),
    });
  }
  // The biases of keys, which softmax ignores.
  expect(flat).toEqual([1, 1, 0, 0, 0]);
  await training.dispose();
  const healed = await healModel({
    ...given,
    settings: { ...settings, windowsPerStep: 1, passCount: 4, learningRate: 3e-3 },
  });
  expect(healed.report.divergence.after).toBeLessThan(healed.report.divergence.before);
});
