import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTokenizer } from '../src/calibration/tokenizer.js';
import { OptionError } from '../src/errors.js';
import type { OnnxModel } from '../src/onnx/onnx-model.js';
import { type PruneOptions, resolveOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { pruneInShots } from '../src/prune/prune-in-shots.js';
import { pruneModel } from '../src/prune/prune-model.js';
import { maskModel } from '../src/removal/mask-model.js';
import { storeInMemory } from '../src/removal/repair-linear.js';
import { createMemoryStore } from '../src/runtime/tensor-store.js';
import { testEngine } from './support/engine.js';
import { repairedInputs } from './support/masked.js';
import { loadFusedLlama, loadShortLlama, SHORT_LLAMA } from './support/short-llama.js';
import {
  bytesOf,
  type Loaded,
  meanLoss,
  pruneLoaded,
  relativeGap,
  runModel,
  someWindows,
} from './support/tiny-llama.js';

let loaded: Loaded;
let windows: Int32Array[];
beforeAll(async () => {
  loaded = await loadShortLlama();
  const read = (name: string) => readFileSync(join(SHORT_LLAMA, name), 'utf8');
  const tokenizer = createTokenizer(JSON.parse(read('tokenizer.json')), JSON.parse(read('tokenizer_config.json')));
  const ids = Int32Array.from(tokenizer.encode(read('text/prose.txt').slice(0, 8000)));
  windows = Array.from({ length: 8 }, (_, window) => ids.slice(window * 128, (window + 1) * 128));
});

const pruneBy = (inputSteps: number, more: Partial<PruneOptions> = {}): Promise<PruneOutcome> =>
  pruneLoaded(loaded, { sparsity: 0.4, method: 'obc', modules: 'ffn', inputSteps, ...more }, { windows });
const errors = ({ modules }: PruneOutcome) => modules.map(({ error }) => error!.after);
const logitsOf = async (model: OnnxModel) => (await runModel(model, someWindows(2, 16))).logits!.data as Float32Array;

it('lowers the error of the first FFN, and the loss, with each step', async () => {
  // The entire trained model: without some blocks, a lower error of each block need not lower the loss.
  const trained = await loadFusedLlama();
  const some = { windows: windows.slice(0, 4) };
  const options = { sparsity: 0.4, method: 'flap', modules: 'ffn' } as const;
  const by = (inputSteps: number) => pruneLoaded(trained, { ...options, inputSteps }, some);
  const [plain, ...repaired] = [await by(0), await by(1), await by(3)] as const;
  expect(plain.modules.flatMap((module) => repairedInputs(plain, trained, module))).toEqual([]);
  // The first block reads the same in all three; what later ones read depends on those before them.
  const [first, one, three] = [plain, ...repaired].map((outcome) => errors(outcome)[0]!);
  expect(one!).toBeLessThan(0.95 * first!);
  expect(three!).toBeLessThan(0.95 * one!);
  const losses = await Promise.all([plain, ...repaired].map(({ model }) => meanLoss(model, windows)));
  expect(losses[1]!).toBeLessThan(losses[0]!);
  expect(losses[2]!).toBeLessThan(losses[1]!);
});

it('reports the remaining error that the written model has', async () => {
  const outcome = await pruneBy(2);
  const [{ module, error }] = outcome.modules as [PruneOutcome['modules'][number]];
  const { result } = module.output;
  const readOutput = async (model: OnnxModel) => {
    const { proto } = model;
    const output = proto.graph!.output.find(({ name }) => name === result);
    if (output === undefined)
      proto.graph!.output.push({ ...proto.graph!.output[0]!, name: result, type: undefined } as never);
    return (await runModel(model, windows, [result]))[result]!.data as Float32Array;
  };
  const [dense, pruned] = [await readOutput((await loadShortLlama()).model), await readOutput(outcome.model)];
  let missing = 0;
  let whole = 0;
  dense.forEach((value, at) => {
    missing += (value - pruned[at]!) ** 2;
    whole += value ** 2;
  });
  expect(error!.after).toBeCloseTo(missing / whole, 4);
  expect(Math.abs(error!.after / (missing / whole) - 1)).toBeLessThan(1e-3);
});

it('equals the masked original only with its repaired input projections', async () => {
  const outcome = await pruneBy(1);
  const masked = await maskModel(loaded.model, outcome, { analysed: loaded.analysed, store: storeInMemory });
  expect(relativeGap(await logitsOf(outcome.model), await logitsOf(masked))).toBeLessThan(1e-5);
  const inputs = new Set(outcome.modules.flatMap((module) => repairedInputs(outcome, loaded, module)));
  const changed = new Map([...outcome.changed].filter(([name]) => !inputs.has(name)));
  const { analysed } = loaded;
  const unrepaired = await maskModel(loaded.model, { ...outcome, changed }, { analysed, store: storeInMemory });
  expect(relativeGap(await logitsOf(outcome.model), await logitsOf(unrepaired))).toBeGreaterThan(1e-4);
});

it('keeps repairs of an earlier shot if a later one repairs nothing', async () => {
  const options = resolveOptions({ sparsity: 0.4, method: 'obc', modules: 'ffn', shots: 2 });
  const base = {
    ...loaded,
    options,
    engine: testEngine,
    windows,
    store: storeInMemory,
    createStore: createMemoryStore,
  };
  const steps = [1, 0];
  const outcome = await pruneInShots(base, (job) =>
    pruneModel({ ...job, options: { ...job.options, shots: 1, inputSteps: steps.shift()! } }),
  );
  for (const module of outcome.modules) expect(repairedInputs(outcome, loaded, module)).toHaveLength(2);
  const masked = await maskModel(loaded.model, outcome, { analysed: loaded.analysed, store: storeInMemory });
  expect(relativeGap(await logitsOf(outcome.model), await logitsOf(masked))).toBeLessThan(1e-5);
});

it.each(['flap', 'f-fang', 'o-fang', 'auto', 'wanda'])(
  'lowers the error of the first FFN with method %s',
  async (method) => {
    const options = { sparsity: 0.4, method };
    const few = { windows: windows.slice(0, 4).map((window) => window.slice(0, 64)) };
    const plain = await pruneLoaded(loaded, { ...options, inputSteps: 0 }, few);
    const repaired = await pruneLoaded(loaded, { ...options, inputSteps: 1 }, few);
    const ffn = plain.modules.findIndex(({ module }) => module.kind === 'ffn');
    expect(errors(repaired)[ffn]!).toBeLessThan(errors(plain)[ffn]!);
  },
);

it('gives the same bytes in a second run', async () => {
  const bytes = async () => bytesOf((await pruneLoaded(loaded, { sparsity: 0.4, method: 'obc', inputSteps: 2 })).model);
  expect(await bytes()).toEqual(await bytes());
});

it('changes nothing at sparsity 0, and refuses invalid inputSteps', async () => {
  const { model } = await pruneBy(3, { sparsity: 0 });
  expect(await logitsOf(model)).toEqual(await logitsOf(loaded.model));
  for (const inputSteps of [-1, 1.5, Number.NaN])
    expect(() => resolveOptions({ sparsity: 0.3, inputSteps })).toThrow(OptionError);
  expect(() => resolveOptions({ sparsity: 0.3, method: 'magnitude', inputSteps: 2 })).toThrow(/read tokens/);
});

it('stops when it is aborted', async () => {
  const controller = new AbortController();
  const options = {
    signal: controller.signal,
    onProgress: ({ detail }: { readonly detail?: string | undefined }) => {
      if (detail?.includes('inputs')) controller.abort(new Error('enough'));
    },
  };
  await expect(pruneBy(2, options)).rejects.toThrow('enough');
});
