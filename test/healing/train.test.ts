import { type Training, train } from '../../src/healing/train.js';
import { createTrainingStores, fillStores } from '../../src/healing/training-state.js';
import { groupWeights } from '../../src/healing/weight-groups.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';

const batchOf = (index: number) => ({
  index,
  tokens: new Int32Array(4),
  batchSize: 1,
  sequenceLength: 4,
  firstToken: 0,
});
const HELD_OUT = batchOf(8);

/** Trains a model without weights for eight steps: its divergence on the held-out windows follows a list, scored every other step. */
async function trainBy(scores: readonly number[]) {
  const groups = groupWeights([], 0);
  const nothing = (): Tensor => ({ type: 'float32', dims: [1], data: new Float32Array(1) });
  const store = { get: async () => nothing(), put: async () => {} };
  const remaining = [...scores];
  const stores = await createTrainingStores(groups, createMemoryStore);
  await fillStores(groups, stores);
  const training = {
    groups,
    stores,
    student: { spans: [] },
    head: {
      run: async ({ batch }: { readonly batch: { readonly index: number } }) => ({
        loss: batch.index === HELD_OUT.index ? remaining.shift()! : 1,
        cotangent: nothing(),
      }),
    },
    ...{ inputs: store, targets: store, archive: store, cotangents: store, gradients: createMemoryStore() },
    steps: Array.from({ length: 8 }, (_, step) => [batchOf(step)]),
    ...{ passCount: 1, heldOut: [HELD_OUT], scoreEvery: 2, learningRate: 1e-3, lossBlocks: 1 },
  };
  const facts = await train(training as unknown as Training);
  return { ...facts, scores: facts.curve.flatMap(({ heldOut }) => heldOut ?? []), remaining };
}

it('restarts at half the learning rate if no step improved the model', async () => {
  const facts = await trainBy([1, 1.01, 1.02, 0.9, 0.8, 0.7, 0.6]);
  expect(facts).toMatchObject({ halvings: 1, best: { step: 8, heldOut: 0.6 }, remaining: [] });
  expect(facts.scores).toEqual([1, 0.9, 0.8, 0.7, 0.6]);
});

it('ends after three restarts without improvement, or without one if a step was better', async () => {
  const rising = [1, 1.01, 1.02, 1.01, 1.02, 1.01, 1.02, 1.01, 1.02];
  expect(await trainBy(rising)).toMatchObject({ halvings: 3, best: { step: 0 }, remaining: [] });
  expect(await trainBy([1, 0.9, 0.91, 0.92])).toMatchObject({ halvings: 0, best: { step: 2 }, remaining: [] });
});
