import { differentiate, measureLoss } from '../../src/healing/differentiate.js';
import { startTraining } from '../../src/healing/start-training.js';
import { getList, putList } from '../../src/healing/training-state.js';
import { createRandom } from '../../src/linalg/random.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { loadFusedLlama } from '../support/short-llama.js';
import { pruneLoaded, someWindows } from '../support/tiny-llama.js';

/** Length of the step along a weight's gradient that the loss is measured at, on both sides. */
const STEP = 2e-3;

it('is the slope of the loss along every weight of the first block, the last, and what blocks share', async () => {
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
  const { groups, stores, gradients, steps } = training;
  const [batches = []] = steps;
  await differentiate(training, batches, 'gradient');
  expect(groups.all[groups.shared]!.weights.map(({ name }) => name)).toEqual(['model.layers.1.input_layernorm.weight']);
  const random = createRandom(1);
  for (const at of [0, 5, groups.shared]) {
    for (const { name, offset, count } of groups.all[at]!.weights) {
      const start = (await getList(stores.now.weights, at)).slice();
      const gradient = (await getList(gradients, at)).slice(offset, offset + count);
      // Mostly along the gradient, where the slope is no noise.
      const direction = gradient.map((value) => value * (0.5 + random()));
      const length = Math.hypot(...direction);
      const slope = direction.reduce((sum, value, i) => sum + (value / length) * gradient[i]!, 0);
      const lossAt = async (by: number) => {
        const moved = start.slice();
        direction.forEach((value, i) => {
          moved[offset + i]! += (by * value) / length;
        });
        await putList(stores.now.weights, at, moved);
        return measureLoss(training, batches, 'difference');
      };
      const found = ((await lossAt(STEP)) - (await lossAt(-STEP))) / (2 * STEP);
      await putList(stores.now.weights, at, start);
      expect({ name, error: Math.abs(found / slope - 1) < 0.02 ? 'small' : found / slope }).toEqual({
        name,
        error: 'small',
      });
    }
  }
  await training.dispose();
});
