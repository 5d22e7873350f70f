import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { OptionError } from '../src/errors.js';
import { createLanguageModel } from '../src/evaluation/session-language-model.js';
import { prune } from '../src/node.js';
import { type PruneOptions, resolveOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { analyseModel } from '../src/runtime/analyse-model.js';
import { testEngine } from './support/engine.js';
import { gapToMasked } from './support/masked.js';
import { FUSED_LLAMA, loadFusedLlama, loadShortLlama } from './support/short-llama.js';
import { useTemporaryFolder } from './support/temporary-folder.js';
import { bytesOf, type Loaded, pruneLoaded, relativeGap, someWindows } from './support/tiny-llama.js';

const folder = useTemporaryFolder();
let loaded: Loaded;
let short: Loaded;
let byFlap: PruneOutcome;
beforeAll(async () => {
  [loaded, short] = [await loadFusedLlama(), await loadShortLlama()];
  byFlap = await pruneLoaded(loaded, options(WITHOUT_FFNS));
});

/** Blocks 1 and 4 lose their FFN. */
const WITHOUT_FFNS = { minimumWidth: 0, blockSparsity: { 1: { ffn: 1 }, 4: { ffn: 1 } } } as const;
const options = (more: Partial<PruneOptions> = {}): PruneOptions => ({
  sparsity: 0.45,
  method: 'flap',
  allocation: 'global',
  ...more,
});
const widths = ({ modules }: PruneOutcome) =>
  modules.filter(({ module }) => module.kind === 'ffn').map(({ keep }) => keep.length);
const blocksWithoutFfn = ({ modules }: PruneOutcome) =>
  modules.filter(({ keep }) => keep.length === 0).map(({ module }) => module.block);
const nodeNames = ({ model }: PruneOutcome) => model.proto.graph!.node.map(({ name }) => name);

it.each(['flap', 'magnitude', 'auto'])(
  'removes entire FFNs from the graph, and equals the masked original (%s)',
  async (method) => {
    const outcome = method === 'flap' ? byFlap : await pruneLoaded(loaded, options({ ...WITHOUT_FFNS, method }));
    expect(blocksWithoutFfn(outcome)).toEqual([1, 4]);
    expect(nodeNames(outcome).filter((name) => /layers\.[14]\/mlp/.test(name))).toEqual([]);
    expect(nodeNames(outcome).filter((name) => /layers\.[0235]\/mlp/.test(name))).not.toEqual([]);
    expect(outcome.remarks.filter((remark) => remark.includes('one unit stays'))).toEqual([]);
    expect(await gapToMasked(loaded, outcome)).toBeLessThan(1e-4);
  },
);

it('keeps one neuron of each FFN unless minimumWidth is 0', async () => {
  const high = options({ modules: 'ffn', sparsity: 0.98 });
  expect(Math.min(...widths(await pruneLoaded(short, high)))).toBeGreaterThanOrEqual(1);
  const freed = await pruneLoaded(short, { ...high, minimumWidth: 0 });
  expect(widths(freed)).toContain(0);
  expect(await gapToMasked(short, freed)).toBeLessThan(1e-4);
  expect(() => resolveOptions(options({ ...WITHOUT_FFNS, minimumWidth: undefined }))).toThrow(OptionError);
  expect(() => resolveOptions(options({ ...WITHOUT_FFNS, allocation: 'uniform' }))).toThrow(OptionError);
});

it('is detected without the removed FFNs, and computes the same with the cache', async () => {
  const { model } = byFlap;
  const { layout } = (await analyseModel(model, testEngine)).detected;
  expect(layout.blockCount).toBe(6);
  expect(layout.modules.filter(({ kind }) => kind === 'ffn').map(({ block }) => block)).toEqual([0, 2, 3, 5]);
  const session = await testEngine.load(await bytesOf(model));
  const language = await createLanguageModel({ engine: testEngine, session });
  try {
    const windows = someWindows(2, 12);
    const reader = language.createReader();
    for (let at = 0; at < 12; at += 1) {
      const stepped = await reader.read(windows.map((window) => window.subarray(at, at + 1)));
      const whole = await language.createReader().read(windows.map((window) => window.subarray(0, at + 1)));
      expect(relativeGap(stepped, whole)).toBeLessThan(1e-5);
    }
  } finally {
    await language.release();
  }
});

it('writes a folder from which transformers.js generates the same tokens', async () => {
  const out = join(folder(), 'pruned');
  const calibration = { windowCount: 4, windowLength: 32, generate: false };
  const report = await prune({
    ...options(WITHOUT_FFNS),
    model: FUSED_LLAMA,
    out,
    calibration,
    certify: false,
    evaluation: false,
  });
  const ffns = report.modules.filter(({ kind }) => kind === 'ffn');
  expect(ffns.map(({ unitsAfter }) => unitsAfter === 0)).toEqual([false, true, false, false, true, false]);
  const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
  expect(config.intermediate_size).toBe(Math.max(...ffns.map(({ unitsAfter }) => unitsAfter)));
  const prompt = [...someWindows(1, 6)[0]!];
  expect(await generateInTransformersJs(out, prompt, 6)).toEqual(await generateHere(out, prompt, 6));
});

/** Greedy continuation by transformers.js, in a process of its own. */
async function generateInTransformersJs(folder: string, prompt: readonly number[], count: number): Promise<number[]> {
  const script = `
    import { AutoModelForCausalLM, Tensor } from '@huggingface/transformers';
    const model = await AutoModelForCausalLM.from_pretrained(${JSON.stringify(resolve(folder))}, { dtype: 'fp32', local_files_only: true });
    const ids = BigInt64Array.from(${JSON.stringify(prompt)}, BigInt);
    const input_ids = new Tensor('int64', ids, [1, ids.length]);
    const attention_mask = new Tensor('int64', ids.map(() => 1n), [1, ids.length]);
    const found = await model.generate({ input_ids, attention_mask, max_new_tokens: ${count}, min_new_tokens: ${count}, do_sample: false });
    console.log(JSON.stringify([...found.data].map(Number)));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  return JSON.parse(stdout.trim().split('\n').at(-1)!).slice(prompt.length);
}

async function generateHere(folder: string, prompt: readonly number[], count: number): Promise<number[]> {
  const session = await testEngine.load(readFileSync(join(folder, 'onnx/model.onnx')));
  const language = await createLanguageModel({ engine: testEngine, session });
  try {
    const tokens = [...prompt];
    for (let step = 0; step < count; step += 1) {
      const logits = await language.createReader().read([Int32Array.from(tokens)]);
      tokens.push(logits.indexOf(Math.max(...logits)));
    }
    return tokens.slice(prompt.length);
  } finally {
    await language.release();
  }
}
