import { blockSpans } from '../../src/architecture/layout.js';
import { findCarried } from '../../src/healing/carried-values.js';
import { differentiate } from '../../src/healing/differentiate.js';
import { healModel } from '../../src/healing/heal-model.js';
import { startTraining } from '../../src/healing/start-training.js';
import { findTrainedWeights } from '../../src/healing/trained-weights.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { indexRunGraph } from '../../src/runtime/block-runner.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { expectSlopes } from '../support/expect-slopes.js';
import {
  bestGroup,
  branches,
  CHOSEN,
  EXPERTS,
  gathered,
  mixture,
  packedMixture,
  plainRouter,
  sigmoidRouter,
  softmaxOfBest,
} from '../support/mixtures.js';
import { buildDecoder, HIDDEN, NEURONS, type Part, VOCABULARY, withSharedExpert } from '../support/small-decoder.js';
import { loadTinyLlama, pruneLoaded } from '../support/tiny-llama.js';

const windows = Array.from({ length: 6 }, (_, window) =>
  Int32Array.from({ length: 16 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);

async function makePair(ffn: Part, experts: number) {
  const teacher = await loadTinyLlama(buildDecoder({ ffn }));
  const options = { sparsity: 0, experts, modules: 'experts', method: 'flap' } as const;
  const { model } = await pruneLoaded(teacher, options, { windows });
  return { teacher, student: { model, analysed: await analyseModel(model, testEngine) } };
}

const given = {
  engine: testEngine,
  windows: windows.slice(0, 4),
  heldOut: windows.slice(4),
  createStore: createMemoryStore,
  store: storeInMemory,
} as const;

const settings = { trained: 'all', windowsPerStep: 4, passCount: 1, learningRate: undefined } as const;

/** A form of experts, and the dims of each expert's trained weights in one block. */
const FORMS: Readonly<
  Record<
    string,
    {
      readonly ffn: Part;
      readonly dims: readonly (readonly number[])[];
      readonly experts?: number;
      readonly trained?: 'ffn';
    }
  >
> = {
  'in one operator': { ffn: mixture(plainRouter), dims: [[48, 16], [48], [16, 24], [16]] },
  'in packed weights, by their scales': {
    ffn: packedMixture,
    dims: [[48], [48], [16], [16]],
    trained: 'ffn',
  },
  'with sigmoid routers and a shared expert': {
    ffn: withSharedExpert(mixture(sigmoidRouter)),
    dims: [[48, 16], [48], [16, 24], [16]],
  },
  'gathered from stacks': { ffn: gathered(softmaxOfBest, 'Gather'), dims: [[48, 16], [48], [16, 24]] },
  'gathered in groups, as many as each token uses': {
    ffn: gathered(bestGroup(1)),
    dims: [[48, 16], [48], [16, 24]],
    experts: CHOSEN,
  },
};

describe.each(Object.entries(FORMS))('experts %s', (_, form) => {
  const { ffn, dims, experts = CHOSEN + 1, trained = 'all' } = form;
  it('have gradients equal to the slope of the loss, and are healed', async () => {
    const pair = await makePair(ffn, experts);
    const training = await startTraining({ ...given, ...pair, settings });
    const { groups, steps } = training;
    const stacks = groups.all[0]!.weights.filter(({ handle }) => handle.dims[0] === experts && handle.dims.length > 1);
    expect(stacks.map(({ handle }) => handle.dims.slice(1))).toEqual(expect.arrayContaining(dims as number[][]));
    await differentiate(training, steps[0]!, 'gradient');
    await expectSlopes(training, { group: 0, weights: stacks, stepOf: (weight) => 1e-3 * Math.hypot(...weight) });
    await training.dispose();
    const healed = await healModel({
      ...given,
      ...pair,
      settings: { ...settings, trained, windowsPerStep: 1, learningRate: 1e-3 },
    });
    expect([...healed.changed.keys()]).toEqual(expect.arrayContaining(stacks.map(({ name }) => name)));
    expect(healed.report.divergence.after).toBeLessThan(healed.report.divergence.before);
  });
});

it.each([
  ['in one operator', mixture(plainRouter), 4, 1],
  ['gathered from stacks', gathered(softmaxOfBest), 3, 1],
  ['with nodes of their own', branches(), 3 * EXPERTS, EXPERTS],
  ['in packed weights', packedMixture, 4, 0],
] as const)('counts experts as FFNs, second layers as outputs: %s', async (_, ffn, weightCount, outputCount) => {
  const { model, analysed } = await loadTinyLlama(buildDecoder({ ffn }));
  const index = indexRunGraph(model);
  const spans = blockSpans(analysed.detected.layout);
  const count = (trained: 'all' | 'ffn' | 'outputs') => {
    const carried = findCarried(analysed, index, spans);
    const found = findTrainedWeights({ model, analysed, index, spans, carried, trained });
    return found.filter(({ spans: [block] }) => block === 0);
  };
  expect(count('ffn')).toHaveLength(weightCount);
  const isSecond = ([rows = 0, columns = 0, last]: readonly number[]) =>
    last === undefined ? rows === NEURONS && columns === HIDDEN : columns === HIDDEN && last === NEURONS;
  const outputs = count('outputs').filter(({ handle: { dims } }) => dims.length === 3 || dims.includes(NEURONS));
  expect(outputs).toHaveLength(outputCount);
  expect(outputs.every(({ handle }) => isSecond(handle.dims))).toBe(true);
});

it('trains the scales and biases of packed experts, not their codes', async () => {
  const { model, analysed } = await loadTinyLlama(buildDecoder({ ffn: packedMixture }));
  const spans = blockSpans(analysed.detected.layout);
  const index = indexRunGraph(model);
  const carried = findCarried(analysed, index, spans);
  const dimsOf = (trained: 'ffn' | 'outputs') =>
    findTrainedWeights({ model, analysed, index, spans, carried, trained })
      .filter(({ spans: [block], handle: { dims } }) => block === 0 && dims[0] === EXPERTS && dims.length > 1)
      .map(({ handle }) => handle.dims[1]);
  // Scales and bias of each linear layer; without the scales of the first one.
  expect(dimsOf('ffn')).toEqual([2 * NEURONS, 2 * NEURONS, HIDDEN, HIDDEN]);
  expect(dimsOf('outputs')).toEqual([2 * NEURONS, HIDDEN, HIDDEN]);
});
