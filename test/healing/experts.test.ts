import { blockSpans } from '../../src/architecture/layout.js';
import { differentiate, measureLoss } from '../../src/healing/differentiate.js';
import { healModel } from '../../src/healing/heal-model.js';
import { startTraining } from '../../src/healing/start-training.js';
import { findTrainedWeights } from '../../src/healing/trained-weights.js';
import { getList, putList } from '../../src/healing/training-state.js';
import { createRandom } from '../../src/linalg/random.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { indexRunGraph } from '../../src/runtime/block-runner.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
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
import { besideSharedExpert, buildDecoder, HIDDEN, NEURONS, type Part, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, pruneLoaded } from '../support/tiny-llama.js';

const windows = Array.from({ length: 6 }, (_, window) =>
  Int32Array.from({ length: 16 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);

async function makePair(ffn: Part) {
  const teacher = await loadTinyLlama(buildDecoder({ ffn }));
  const options = { sparsity: 0, experts: CHOSEN + 1, modules: 'experts', method: 'flap' } as const;
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

/** A form, and how many weights of the experts in one block are trained. */
const FORMS: Readonly<Record<string, { readonly ffn: Part; readonly dims: readonly (readonly number[])[] }>> = {
  'in one operator': { ffn: mixture(plainRouter), dims: [[48, 16], [48], [16, 24], [16]] },
  'behind sigmoids, beside a shared expert': {
    ffn: besideSharedExpert(mixture(sigmoidRouter)),
    dims: [[48, 16], [48], [16, 24], [16]],
  },
  'gathered from stacks': { ffn: gathered(softmaxOfBest, 'Gather'), dims: [[48, 16], [48], [16, 24]] },
  'gathered in groups': { ffn: gathered(bestGroup(1)), dims: [[48, 16], [48], [16, 24]] },
};

describe.each(Object.entries(FORMS))('experts %s', (_, { ffn, dims }) => {
  it('have the slope of the loss along their weights, and are healed', async () => {
    const pair = await makePair(ffn);
    const training = await startTraining({ ...given, ...pair, settings });
    const { groups, stores, gradients, steps } = training;
    const stacks = groups.all[0]!.weights.filter(
      ({ handle }) => handle.dims[0] === CHOSEN + 1 && handle.dims.length > 1,
    );
    expect(stacks.map(({ handle }) => handle.dims.slice(1))).toEqual(expect.arrayContaining(dims as number[][]));
    await differentiate(training, steps[0]!, 'gradient');
    const random = createRandom(1);
    for (const { name, offset, count } of stacks) {
      const start = (await getList(stores.now.weights, 0)).slice();
      const gradient = (await getList(gradients, 0)).slice(offset, offset + count);
      const direction = gradient.map((value) => value * (0.5 + random()));
      const length = Math.hypot(...direction);
      const slope = direction.reduce((sum, value, i) => sum + (value / length) * gradient[i]!, 0);
      const lossAt = async (by: number) => {
        const moved = start.slice();
        direction.forEach((value, i) => {
          moved[offset + i]! += (by * value) / length;
        });
        await putList(stores.now.weights, 0, moved);
        return measureLoss(training, steps[0]!, 'difference');
      };
      const found = ((await lossAt(1e-2)) - (await lossAt(-1e-2))) / 2e-2;
      await putList(stores.now.weights, 0, start);
      expect({ name, error: Math.abs(found / slope - 1) < 0.02 ? 'small' : found / slope }).toEqual({
        name,
        error: 'small',
      });
    }
    await training.dispose();
    const healed = await healModel({
      ...given,
      ...pair,
      settings: { ...settings, windowsPerStep: 1, learningRate: 1e-3 },
    });
    expect([...healed.changed.keys()]).toEqual(expect.arrayContaining(stacks.map(({ name }) => name)));
    expect(healed.report.divergence.after).toBeLessThan(healed.report.divergence.before);
  });
});

it.each([
  ['in one operator', mixture(plainRouter), 4, 1],
  ['gathered from stacks', gathered(softmaxOfBest), 3, 1],
  ['with nodes of their own', branches(), 3 * EXPERTS, EXPERTS],
  ['in packed weights', packedMixture, 0, 0],
] as const)('are FFNs, and have maps out, to those who choose what is trained: %s', async (_, ffn, maps, out) => {
  const { model, analysed } = await loadTinyLlama(buildDecoder({ ffn }));
  const index = indexRunGraph(model);
  const spans = blockSpans(analysed.detected.layout);
  const count = (trained: 'all' | 'ffn' | 'outputs') => {
    const found = findTrainedWeights({ model, analysed, index, spans, trained });
    return found.filter(({ spans: [block] }) => block === 0);
  };
  expect(count('ffn')).toHaveLength(maps);
  const isSecond = ([rows = 0, columns = 0, last]: readonly number[]) =>
    last === undefined ? rows === NEURONS && columns === HIDDEN : columns === HIDDEN && last === NEURONS;
  const outputs = count('outputs').filter(({ handle: { dims } }) => dims.length === 3 || dims.includes(NEURONS));
  expect(outputs).toHaveLength(out);
  expect(outputs.every(({ handle }) => isSecond(handle.dims))).toBe(true);
});
