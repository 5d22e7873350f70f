import { type Training, train } from '../../src/healing/train.js';
import {
  createTrainingStores,
  fillStores,
  type SavedTraining,
  type TrainingFacts,
  unpackTraining,
} from '../../src/healing/training-state.js';
import { groupWeights } from '../../src/healing/weight-groups.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { floatsHandle } from '../../src/onnx/tensor-handle.js';
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

const nothing = (): Tensor => ({ type: 'float32', dims: [1], data: new Float32Array(1) });

/** A block with two weights of 1, which has the same gradient at every step. */
const blockOf = (gradient: readonly number[]) => ({
  weight: {
    name: 'weight',
    count: 2,
    spans: [0],
    handle: floatsHandle({ dataType: 1, dims: [2] }, Float32Array.of(1, 1)),
  },
  student: {
    spans: [{}],
    forward: async () => ({ output: nothing(), computed: {} }),
    backward: async (_: number, { sums }: { readonly sums: ReadonlyMap<number, Float32Array> }) => {
      sums.get(0)!.set(gradient);
      return { carried: {} };
    },
  },
});

/**
 * Trains a model for eight steps: its divergence on the held-out windows follows a list, scored every other step. Without a block it
 * has no weights.
 */
async function trainBy(
  scores: readonly number[],
  {
    block,
    from,
    saved,
    ...more
  }: Partial<Pick<Training, 'steps' | 'scoreEvery' | 'onStep'>> & {
    readonly block?: ReturnType<typeof blockOf>;
    readonly from?: TrainingFacts;
    /** State to resume from, with its weights. */
    readonly saved?: SavedTraining;
  } = {},
) {
  const groups = block === undefined ? groupWeights([], 0) : groupWeights([block.weight], 1);
  const store = { get: async () => nothing(), put: async () => {} };
  const remaining = [...scores];
  const stores = await createTrainingStores(groups, createMemoryStore);
  await (saved ? unpackTraining(saved, groups, stores) : fillStores(groups, stores));
  const training = {
    groups,
    stores,
    student: block?.student ?? { spans: [] },
    head: {
      run: async ({ batch }: { readonly batch: { readonly index: number } }) => ({
        loss: batch.index === HELD_OUT.index ? remaining.shift()! : 1,
        cotangent: nothing(),
      }),
    },
    inputs: store,
    targets: store,
    archive: store,
    cotangents: store,
    gradients: createMemoryStore(),
    steps: stepsOf(8),
    passCount: 1,
    heldOut: [HELD_OUT],
    scoreEvery: 2,
    learningRate: 1e-3,
    lossBlocks: 1,
    ...more,
  };
  const facts = await train(training as unknown as Training, saved?.facts ?? from);
  const read = async (store: typeof stores.best.weights) => [...((await store.get(0)).data as Float32Array)];
  return {
    facts,
    ...facts,
    scores: facts.curve.flatMap(({ heldOut }) => heldOut ?? []),
    remaining,
    weights: await read(stores.best.weights),
    means: await read(stores.best.first),
  };
}

/** The state with the present values of its tensors. */
async function copyOf({ facts, tensors }: SavedTraining): Promise<SavedTraining> {
  const copied = [...tensors].map(async ([name, handle]): Promise<[string, TensorHandle]> => {
    const bytes = await handle.read();
    return [name, { ...handle, read: async () => bytes }];
  });
  return { facts, tensors: new Map(await Promise.all(copied)) };
}

const stepsOf = (count: number) => Array.from({ length: count }, (_, step) => [batchOf(step)]);

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

it('ends if equal scores do not improve, and restarts if one is NaN', async () => {
  expect(await trainBy([1, 0.9, 0.9, 0.9])).toMatchObject({ halvings: 0, best: { step: 2 }, remaining: [] });
  const facts = await trainBy([1, Number.NaN, 0.9, 0.8, 0.7, 0.6]);
  expect(facts).toMatchObject({ halvings: 1, best: { step: 8, heldOut: 0.6 }, remaining: [] });
});

it('scores the last step too', async () => {
  const facts = await trainBy([1, 0.9, 0.8], { steps: stepsOf(3) });
  expect(facts).toMatchObject({ best: { step: 3, heldOut: 0.8 }, scores: [1, 0.9, 0.8] });
});

it('takes no further step when resumed after the last restart diverged', async () => {
  const none = Number.NaN;
  const { facts } = await trainBy([1, 0.9, none, none, none, none]);
  expect(facts).toMatchObject({ step: 2, halvings: 4, best: { step: 2, heldOut: 0.9 } });
  expect(await trainBy([0.5], { from: facts })).toMatchObject({ facts, remaining: [0.5] });
});

describe('the weights', () => {
  const block = blockOf([3, -4]);
  const once = { block, steps: stepsOf(1), scoreEvery: 1 };

  it('move by the learning rate, or half of it after a first score that is clearly worse', async () => {
    const moved = async (...scores: number[]) => (await trainBy(scores, once)).weights.map((weight) => 1 - weight);
    for (const [scores, length] of [[[1, 0.9], 1e-3] as const, [[1, 1.1, 0.9], 5e-4] as const]) {
      const [first, second] = await moved(...scores);
      expect(first! / length).toBeCloseTo(1, 3);
      expect(second! / length).toBeCloseTo(-1, 3);
    }
  });

  it('are those of the best step', async () => {
    const twice = { ...once, steps: stepsOf(2) };
    const [best] = (await trainBy([1, 0.9, 0.95], twice)).weights;
    expect((1 - best!) / 1e-3).toBeCloseTo(1, 3);
    const [last] = (await trainBy([1, 0.9, 0.85], twice)).weights;
    expect((1 - last!) / 1e-3).toBeGreaterThan(1.2);
  });

  it('are the same if training resumes, also from a step that is not the best', async () => {
    const scores = [1, 0.9, 0.95, 0.85, 0.86];
    const saved: SavedTraining[] = [];
    const whole = await trainBy(scores, {
      block,
      steps: stepsOf(4),
      scoreEvery: 1,
      onStep: async (save) => void saved.push(await copyOf(save())),
    });
    expect(saved.map(({ facts }) => [facts.step, facts.best.step])).toEqual([
      [1, 1],
      [2, 1],
      [3, 3],
      [4, 3],
    ]);
    for (const [at, state] of saved.entries()) {
      const resumed = await trainBy(scores.slice(at + 2), { block, steps: stepsOf(4), scoreEvery: 1, saved: state });
      expect(resumed).toEqual(whole);
    }
  });

  it('follow a gradient of a norm of at most 1', async () => {
    const meansOf = async (gradient: readonly number[]) =>
      (await trainBy([1, 0.9], { ...once, block: blockOf(gradient) })).means.map((mean) => Number(mean.toFixed(6)));
    expect(await meansOf([3, -4])).toEqual([0.06, -0.08]);
    expect(await meansOf([0.3, -0.4])).toEqual([0.03, -0.04]);
  });
});
