import { blockSpans } from '../../src/architecture/layout.js';
import { UnsupportedModelError } from '../../src/errors.js';
import { findCarried } from '../../src/healing/carried-values.js';
import {
  checkSameBase,
  type Healed,
  type HealingRequest,
  healModel,
  remarkHealing,
} from '../../src/healing/heal-model.js';
import { findTrainedWeights } from '../../src/healing/trained-weights.js';
import type { SavedTraining } from '../../src/healing/training-state.js';
import { copyModel, setWeight } from '../../src/onnx/edit-weights.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { indexRunGraph } from '../../src/runtime/block-runner.js';
import { createMemoryStore, createSpilledStore } from '../../src/runtime/tensor-store.js';
import { createMemoryScratch } from '../../src/web/scratch.js';
import { testEngine } from '../support/engine.js';
import { loadFusedLlama, loadShortLlama } from '../support/short-llama.js';
import { bytesOf, type Loaded, pruneLoaded, someWindows } from '../support/tiny-llama.js';

/** A dense model and its pruned version. */
interface Pair {
  readonly teacher: Loaded;
  readonly student: Loaded;
}

async function makePair(teacher: Loaded): Promise<Pair> {
  const { model } = await pruneLoaded(teacher, { sparsity: 0.4, method: 'wanda', modules: 'ffn' });
  return { teacher, student: { model, analysed: await analyseModel(model, testEngine) } };
}

let teacher: Loaded;
let student: Loaded;
/** Models of two blocks, for tests of how the training proceeds. */
let short: Pair;
beforeAll(async () => {
  ({ teacher, student } = await makePair(await loadFusedLlama()));
  short = await makePair(await loadShortLlama());
});

const windows = someWindows(10, 32);

const heal = (given: Partial<HealingRequest> = {}): Promise<Healed> =>
  healModel({
    engine: testEngine,
    teacher,
    student,
    windows: windows.slice(0, 8),
    heldOut: windows.slice(8),
    settings: { trained: 'all', windowsPerStep: 2, passCount: 1, learningRate: 1e-3 },
    createStore: createMemoryStore,
    store: storeInMemory,
    ...given,
  });

/** The student with the weights that healing gave it, as a file. */
async function bytesAfter({ changed }: Healed): Promise<Uint8Array> {
  const healed = copyModel(student.model);
  for (const [name, handle] of changed) setWeight(healed, name, handle);
  return bytesOf(healed);
}

/** A saved state as it is read back from files. */
async function reread({ facts, tensors }: SavedTraining): Promise<SavedTraining> {
  const copies = new Map<string, TensorHandle>();
  for (const [name, handle] of tensors) copies.set(name, bytesHandle(handle, await handle.read()));
  return { facts: JSON.parse(JSON.stringify(facts)), tensors: copies };
}

/**
 * By PyTorch 2.7 on transformers' LlamaForCausalLM with the same neurons cut out: mean over all positions of KL(dense || pruned),
 * clip_grad_norm_ at 1, AdamW(lr, betas (0.9, 0.95), eps 1e-8, weight_decay 0), lr 1e-3 x the schedule, of the blocks' weights.
 */
const CURVE = [
  [0, undefined, 0.76598382],
  [1, 0.7577256, 0.722938],
  [2, 0.53086191, 0.69598603],
  [3, 0.85026151, 0.70883548],
  [4, 1.29172945, 0.70877147],
] as const;

it('matches the steps of PyTorch, keeps the best one, and resumes to the same bytes', async () => {
  const states: SavedTraining[] = [];
  const whole = await heal({ onStep: async (save) => void states.push(await reread(save())) });
  const { curve, keptStep, divergence } = whole.report;
  expect(curve.map(({ step }) => step)).toEqual(CURVE.map(([step]) => step));
  for (const [at, [, train, heldOut]] of CURVE.entries()) {
    if (train !== undefined) expect(curve[at]!.train).toBeCloseTo(train, 4);
    expect(curve[at]!.heldOut).toBeCloseTo(heldOut, 4);
  }
  expect(keptStep).toBe(2);
  expect(divergence).toEqual({ before: curve[0]!.heldOut, after: curve[2]!.heldOut });

  const bytes = await bytesAfter(whole);
  const resumed = await heal({ from: states[2]!, createStore: () => createSpilledStore(createMemoryScratch()) });
  expect(resumed.report).toEqual(whole.report);
  expect(Buffer.compare(await bytesAfter(resumed), bytes)).toBe(0);

  const settings = { trained: 'all', windowsPerStep: 2, passCount: 3, learningRate: 100 } as const;
  const diverged = await heal({ from: states[1]!, settings });
  expect(diverged.report).toMatchObject({ keptStep: 2, halvings: 4, divergence });
  expect(remarkHealing(diverged.report)).toEqual([expect.stringMatching(/^healing diverged after step 2, though/)]);
  expect(Buffer.compare(await bytesAfter(diverged), bytes)).toBe(0);
});

it.each([
  ['all', 2 + 7],
  ['ffn', 3],
  ['outputs', 2 + 2],
] as const)('trains the weights of the setting %s', (trained, each) => {
  const index = indexRunGraph(student.model);
  const spans = blockSpans(student.analysed.detected.layout);
  const carried = findCarried(student.analysed, index, spans);
  const found = findTrainedWeights({ ...student, index, spans, carried, trained });
  expect(found).toHaveLength(6 * each);
  expect(found.filter(({ name }) => name.endsWith('layernorm.weight'))).toHaveLength(trained === 'ffn' ? 0 : 12);
  expect(found.every(({ spans: readers }) => readers.length === 1)).toBe(true);
});

it('shares one graph between blocks that differ only in width', async () => {
  const countGraphs = async (pruned: Loaded) => {
    let count = 0;
    const engine: HealingRequest['engine'] = {
      ...testEngine,
      load(bytes, options) {
        if (options?.keepsMemory === false && options.optimization === undefined) count += 1;
        return testEngine.load(bytes, options);
      },
    };
    await heal({ engine, student: pruned, windows: windows.slice(0, 2) });
    return count;
  };
  const { model } = await pruneLoaded(teacher, {
    sparsity: 0.4,
    method: 'wanda',
    modules: 'ffn',
    allocation: 'standardised',
  });
  const uneven = { model, analysed: await analyseModel(model, testEngine) };
  const widthsOf = ({ analysed }: Loaded) =>
    analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn').map(({ unitCount }) => unitCount);
  expect(new Set(widthsOf(student)).size).toBe(1);
  expect(new Set(widthsOf(uneven)).size).toBeGreaterThan(4);
  // A forward graph, and backward ones of the first block, which passes no gradient on, and of the others; angles are shared.
  expect([await countGraphs(student), await countGraphs(uneven)]).toEqual([3, 3]);
});

it('halves the learning rate if training diverges, and throws after three times', async () => {
  const halvings: number[] = [];
  const diverging = heal({
    ...short,
    settings: { trained: 'all', windowsPerStep: 2, passCount: 3, learningRate: 100 },
    onStep: async (save) => void halvings.push(save().facts.halvings),
  });
  await expect(diverging).rejects.toThrow(/healing diverges: after the first steps .* halved 3 times from 100/);
  expect(Math.max(...halvings)).toBe(4);
});

it('restarts at half the learning rate if the first score is clearly worse than the start', async () => {
  const healAt = (learningRate: number) =>
    heal({ settings: { trained: 'all', windowsPerStep: 2, passCount: 1, learningRate } });
  const [fast, slow] = [await healAt(8e-3), await healAt(4e-3)];
  expect(fast.report.halvings).toBe(slow.report.halvings + 1);
  expect(fast.report.curve).toEqual(slow.report.curve);
});

it('does not take a window with a high loss for divergence', async () => {
  const hard = new Int32Array(32).fill(7);
  const { report } = await heal({
    windows: [hard, ...windows.slice(0, 2)],
    settings: { trained: 'all', windowsPerStep: 1, passCount: 1, learningRate: 1e-4 },
  });
  const { curve, halvings } = report;
  expect(curve[1]!.train).toBeGreaterThan(3 * curve[0]!.heldOut! + 0.1);
  expect({ halvings, steps: curve.length - 1 }).toEqual({ halvings: 0, steps: 3 });
});

it('changes no weights if no step improves the model', async () => {
  const { changed, report } = await heal({
    teacher: short.teacher,
    student: short.teacher,
    windows: windows.slice(0, 2),
    heldOut: windows.slice(2, 3),
  });
  expect(report.keptStep).toBe(0);
  expect(changed.size).toBe(0);
});

it('refuses a model that was not pruned from the dense one, and no held-out windows', async () => {
  const swapped = checkSameBase(student, teacher);
  await expect(swapped).rejects.toThrow(UnsupportedModelError);
  await expect(swapped).rejects.toThrow(/block 0 ffn of the pruned model has 512 units, that of the dense one 307/);
  const other = copyModel(student.model);
  for (const [name, handle] of other.weights)
    if (handle.dims[0] === 2048) setWeight(other, name, bytesHandle(handle, new Uint8Array(handle.byteLength)));
  const foreign = checkSameBase(teacher, { ...student, model: other });
  await expect(foreign).rejects.toThrow(/token embeddings of the pruned model differ .* by 1.0 of their size/);
  await expect(heal({ heldOut: [] })).rejects.toThrow(/8 windows to train on and 0 to check itself on/);
});

it('stops with the reason of the abort signal', async () => {
  const stop = new AbortController();
  const healing = heal({ signal: stop.signal, onProgress: (done) => done > 20 && stop.abort(new Error('enough')) });
  await expect(healing).rejects.toThrow('enough');
});
