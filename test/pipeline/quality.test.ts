import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { concatenate } from '../../src/concatenate.js';
import { withoutOverlaps } from '../../src/evaluation/find-overlap.js';
import { findHeldOutWindows } from '../../src/evaluation/held-out-windows.js';
import { measureDivergence } from '../../src/evaluation/measure-divergence.js';
import { measurePerplexity } from '../../src/evaluation/perplexity.js';
import {
  createNodeEngine,
  type LadderRequest,
  openModelFolder,
  type PruneReport,
  type PruneRequest,
  prune,
  pruneLadder,
} from '../../src/node.js';
import { openLanguageModel } from '../../src/pipeline/open-language-model.js';
import type { Progress } from '../../src/progress.js';
import { copyShortLlama, readShortLlama, SHORT_LLAMA } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const QUICK = { model: SHORT_LLAMA, method: 'random', certify: false } as const;
const run = (request: Partial<PruneRequest> = {}) => prune({ ...QUICK, out: at('out'), sparsity: 0.3, ...request });
const json = async (path: string) => JSON.parse(await readFile(path, 'utf8'));
const tokenizer = async () =>
  createTokenizer(await json(`${SHORT_LLAMA}/tokenizer.json`), await json(`${SHORT_LLAMA}/tokenizer_config.json`));
const PYTHON = `${SHORT_LLAMA}/text/python.txt`;

it('equals an evaluation of the written model on the same tokens', async () => {
  const { quality, timings } = await run();
  const request = { calibration: [], tokenizer: await tokenizer(), vocabularySize: 2048 };
  const { windows, from } = await findHeldOutWindows({ ...request, windowCount: 8, windowLength: 128 });
  const tokens = concatenate(Int32Array, windows);
  const engine = await createNodeEngine();
  const folders = [await openModelFolder(SHORT_LLAMA), await openModelFolder(at('out'))] as const;
  const reference = await openLanguageModel(engine, folders[0]);
  const model = await openLanguageModel(engine, folders[1]);
  const shape = { windowLength: 128 };
  const [dense, pruned] = [
    await measurePerplexity(reference, tokens, shape),
    await measurePerplexity(model, tokens, shape),
  ];
  const divergence = await measureDivergence({ model, reference, engine }, tokens, shape);
  expect(quality).toMatchObject({ from, protocol: { windowCount: 8, windowLength: 128, tokenCount: 8 * 127 } });
  expect(quality!.perplexity.dense).toBeCloseTo(dense.perplexity, 3);
  expect(quality!.perplexity.pruned).toBeCloseTo(pruned.perplexity, 3);
  expect(quality!.divergence.mean).toBeCloseTo(divergence.klDivergence, 5);
  expect(quality!.divergence.interval![0]).toBeCloseTo(divergence.intervals!.klDivergence[0], 5);
  expect(quality!.top1Agreement.mean).toBe(divergence.top1Agreement);
  expect(timings.map(({ stage }) => stage)).toContain('quality');
  expect(await json(at('out/fang-prune-report.json'))).toMatchObject({ quality });
  await Promise.all([reference.release(), model.release(), ...folders.map((opened) => opened.close())]);
});

it('is measured on unseen windows of the calibration source, or else on other tokens', async () => {
  const text = await readFile(PYTHON, 'utf8');
  const tokens = (await tokenizer()).encode(text);
  const calibration = [tokens.slice(0, 256), tokens.slice(512, 640)];
  const shape = { windowCount: 8, windowLength: 64 };
  const request = { ...shape, calibration, tokenizer: await tokenizer(), vocabularySize: 2048 };
  const { windows, from } = await findHeldOutWindows({ ...request, source: { text } });
  expect([from, windows.length]).toEqual(['source', 8]);
  expect(withoutOverlaps(windows, calibration)).toHaveLength(8);
  const whole = await findHeldOutWindows({ ...request, source: { text }, calibration: [tokens] });
  expect(whole.from).toBe('text');
  const withoutTokenizer = { ...request, tokenizer: undefined };
  expect((await findHeldOutWindows(withoutTokenizer)).from).toBe('calibration');
  expect((await findHeldOutWindows({ ...withoutTokenizer, calibration: [] })).from).toBe('random');
  const { quality } = await run({
    method: 'wanda',
    modules: 'ffn',
    calibration: { source: { file: PYTHON }, windowCount: 2, windowLength: 64 },
  });
  expect(quality!.from).toBe('source');
});

it('does not change the written bytes, and is omitted if evaluation is false', async () => {
  const measured = await run();
  const plain = await run({ out: at('plain'), evaluation: false });
  expect([measured.quality !== undefined, plain.quality]).toEqual([true, undefined]);
  const model = async (out: string) => readFile(at(`${out}/onnx/model.onnx`));
  expect((await model('out')).equals(await model('plain'))).toBe(true);
});

it('is replaced by a remark if there is no text', async () => {
  const model = at('in/lone.onnx');
  await mkdir(at('in'));
  await writeFile(model, readShortLlama());
  const { quality, remarks } = await run({ model });
  expect(quality).toBeUndefined();
  expect(remarks.join()).toMatch(/quality was not measured: there is no tokenizer, and no calibration window/);
});

it('is replaced by a remark if there is only the tokenizer of another model', async () => {
  const model = await copyShortLlama(at('in'));
  const tokens = await json(`${model}/tokenizer.json`);
  const vocab = Object.entries<number>(tokens.model.vocab).map(([token, id]) => [token, id < 300 ? id : id + 2000]);
  tokens.model.vocab = Object.fromEntries(vocab);
  await writeFile(`${model}/tokenizer.json`, JSON.stringify(tokens));
  const { quality, remarks } = await run({ model });
  expect(quality).toBeUndefined();
  expect(remarks.join()).toMatch(
    /not measured: .* tokenizer\.json has ids up to 4047, .* model's vocabulary ends at 2047; put/,
  );
});

it('is measured once on the dense model for all rungs, and in their table', async () => {
  const steps: string[] = [];
  const onProgress = ({ stage, done, total }: Progress) =>
    stage === 'quality' && done > 0 && steps.push(`${done}/${total}`);
  const ladder: LadderRequest = { ...QUICK, out: at('ladder'), sparsity: [0.1, 0.3], onProgress };
  const reports = await pruneLadder(ladder);
  expect(steps).toEqual([...count(16), ...count(8)]);
  const [first, second] = reports as [PruneReport, PruneReport];
  const perplexities = first.ladder!.map(({ perplexities }) => perplexities![0]!.perplexity);
  const { dense } = first.quality!.perplexity;
  expect(second.quality!.perplexity.dense).toBe(dense);
  expect(perplexities).toEqual([dense, first.quality!.perplexity.pruned, second.quality!.perplexity.pruned]);
});

it('can be aborted, and has the same values when the run is repeated', async () => {
  const abort = new AbortController();
  const onProgress = ({ stage, done }: Progress) => stage === 'quality' && done === 10 && abort.abort();
  await expect(run({ onProgress, signal: abort.signal })).rejects.toThrow('abort');
  expect((await listFiles(folder())).filter((file) => file.startsWith('out/'))).toEqual([]);
  const uninterrupted = await run({ out: at('other') });
  expect((await run()).quality).toEqual(uninterrupted.quality);
});

it('is measured for every dtype separately', async () => {
  const { quality, dtypes } = await run({ dtype: ['q8', 'q4'], rounding: 'nearest' });
  const [q8, q4] = dtypes!.map((dtype) => dtype.quality!);
  expect(quality).toEqual(q8);
  expect(q4!.perplexity.dense).toBe(q8!.perplexity.dense);
  expect(q4!.divergence.mean).not.toBe(q8!.divergence.mean);
}, 240_000);

const count = (total: number) => Array.from({ length: total }, (_, done) => `${done + 1}/${total}`);
