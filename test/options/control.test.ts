import * as library from '../../src/node.js';
import { callInPage } from '../../src/web/call-in-page.js';
import { createPruneWorker } from '../../src/web.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

const { evaluateModels, generateText, logLikelihoods, measureCalibrationBias, openModelFolder, perplexity } = library;
const {
  applyRecipe,
  benchmark,
  describe: describeModel,
  heal,
  observe,
  plan,
  prune,
  pruneLadder,
  push,
  quantize,
} = library;

const [model, out] = [SHORT_LLAMA, '/nowhere/at/all'];

/** Every call that takes control options, with all that it needs. */
const CALLS: Readonly<Record<string, (control: object) => Promise<unknown>>> = {
  prune: (control) => prune({ model, out, sparsity: 0.3, ...control }),
  pruneLadder: (control) => pruneLadder({ model, out, sparsity: [0.3], ...control }),
  plan: (control) => plan({ model, out, sparsity: 0.3, ...control }),
  quantize: (control) => quantize({ model, out, dtype: 'q4', ...control }),
  observe: (control) => observe({ model, out, ...control }),
  applyRecipe: (control) => applyRecipe({ model, recipe: out, out, ...control }),
  heal: (control) => heal({ dense: model, pruned: model, out, ...control }),
  describe: (control) => describeModel({ model, ...control }),
  perplexity: (control) => perplexity({ model, content: 'a', ...control }),
  evaluateTasks: (control) => library.evaluateTasks({ model, file: out, ...control }),
  logLikelihoods: (control) => logLikelihoods({ model, pairs: [], ...control }),
  generateText: (control) => generateText({ model, prompt: 'a', ...control }),
  evaluateModels: (control) => evaluateModels({ models: [model], texts: ['a.txt'], ...control }),
  measureCalibrationBias: (control) => measureCalibrationBias({ dense: model, pruned: model, text: out, ...control }),
  rebuildReport: (control) => library.rebuildReport({ report: out, ...control }),
  push: (control) => push({ folder: out, repo: 'me/model', ...control }),
  benchmark: (control) => benchmark({ models: [model], ...control }),
  openModelFolder: (control) => openModelFolder(model, control),
  'describe in a page': (control) => callInPage('describe', { model, ...control }),
  'describe in a worker': (control) => createPruneWorker().describe({ model, ...control }),
};

const WRONG: readonly (readonly [object, string, RegExp])[] = [
  [{ signal: {} }, 'signal', /^signal is \{\}; expected an AbortSignal$/],
  [{ signal: 5 }, 'signal', /^signal is 5; expected an AbortSignal$/],
  [{ onProgress: 3 }, 'onProgress', /^onProgress is 3; expected a function$/],
  [{ onProgress: {} }, 'onProgress', /^onProgress is \{\}; expected a function$/],
];

describe.each(Object.keys(CALLS))('%s', (name) => {
  it.each(WRONG)('refuses %j as an option', async (control, option, message) => {
    const call = CALLS[name]!(control);
    await expect(call).rejects.toMatchObject({ code: 'ERR_OPTION', option, message: expect.stringMatching(message) });
  });
});

const BLANK: readonly (readonly [option: string, call: () => Promise<unknown>])[] = [
  ['model', () => describeModel({ model: '' })],
  ['out', () => observe({ model, out: ' ' })],
  ['shards', () => library.mergeStatistics({ shards: [''], out })],
  ['texts', () => evaluateModels({ models: [model], texts: [''] })],
  ['calibration.source', () => prune({ model, out, sparsity: 0.3, calibration: { source: { file: '' } } })],
];

it.each(BLANK)('refuses a blank path as %s', async (option, call) => {
  await expect(call()).rejects.toMatchObject({ code: 'ERR_OPTION', option });
});

it.each([Symbol('30%'), Object.create(null)])('refuses %p as a sparsity', async (sparsity) => {
  const call = prune({ model, out, sparsity: sparsity as number });
  await expect(call).rejects.toMatchObject({ code: 'ERR_OPTION', option: 'sparsity' });
});

const UNISOLATED = ['push', 'benchmark', 'openModelFolder', 'describe in a page', 'describe in a worker'];

it.each(Object.keys(CALLS).filter((name) => !UNISOLATED.includes(name)))(
  '%s refuses isolate values that are not booleans',
  async (name) => {
    for (const control of [{ isolate: 'yes' }, { isolate: 1 }, { isolate: null }])
      await expect(CALLS[name]!(control)).rejects.toMatchObject({ code: 'ERR_OPTION', option: 'isolate' });
    const both = CALLS[name]!({ isolate: true, signal: {} });
    await expect(both).rejects.toMatchObject({ code: 'ERR_OPTION', option: 'signal' });
  },
);

it('refuses engines without load, pairs without two texts, and JSONL lines that are not text', async () => {
  const refusal = (option: string) => ({ code: 'ERR_OPTION', option });
  for (const engine of [{}, { load: 1 }, () => undefined, 5])
    await expect(describeModel({ model, engine: engine as never })).rejects.toMatchObject(refusal('engine'));
  for (const pair of [{}, ['a', 'b'], { context: 'a' }, () => undefined])
    await expect(logLikelihoods({ model, pairs: [pair as never] })).rejects.toMatchObject(refusal('pairs'));
  const calibration = { source: { jsonl: [5 as never] } };
  const call = prune({ model, dryRun: true, report: false, sparsity: 0.3, method: 'flap', calibration });
  await expect(call).rejects.toMatchObject({ code: 'ERR_OPTION', message: expect.stringContaining('line 1 is') });
});
