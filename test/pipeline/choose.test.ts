import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { choose, evaluateModels, type MeasuredChoice, type Progress } from '../../src/node.js';
import { defaultSizes, recommend } from '../../src/pipeline/run-choose.js';
import { copyShortLlama } from '../support/short-llama.js';
import { buildDecoder, plainFfn, selfAttention, unprunable, VOCABULARY } from '../support/small-decoder.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const calibration = { windowCount: 4, windowLength: 32, generate: false } as const;

it('writes q8, q4 and a target size with a trimmed vocabulary, and measures all', async () => {
  const model = await copyShortLlama(at('in'));
  await writeFile(at('mine.txt'), (await readFile('examples/models/tiny-llama/text/prose.txt', 'utf8')).slice(0, 5000));
  await writeFile(
    at('other.txt'),
    (await readFile('examples/models/tiny-llama/text/drama.txt', 'utf8')).slice(0, 1500),
  );
  const steps: Progress[] = [];
  const request = {
    model,
    out: at('sizes'),
    text: at('mine.txt'),
    test: at('other.txt'),
    calibration,
    certify: false,
    targetSize: '700KB',
    allow: ['bits'] as const,
    keepLanguages: ['en'],
    mostLoss: '90%' as const,
    onProgress: (step: Progress) => steps.push(step),
  };
  const { models, recommended, promptLength } = await choose(request);
  expect(models.map(({ name }) => name)).toEqual(['dense', 'q8', 'q4', '700KB']);
  expect(recommended).toBe('700KB');
  expect(promptLength).toBe(128);
  const files = ['in/onnx/model.onnx', 'sizes/q8/onnx/model_q8.onnx', 'sizes/q4/onnx/model_q4.onnx'];
  const sizes = await Promise.all(files.map(async (file) => (await stat(at(file.replace('_q8', '_quantized')))).size));
  expect(models.slice(0, 3).map(({ bytes }) => bytes)).toEqual(sizes);
  expect(models[3]!.bytes).toBeLessThanOrEqual(700_000);
  const evaluated = await evaluateModels({ models: models.map((one) => one.model), texts: [at('other.txt')] });
  expect(models.map(({ bitsPerByte }) => bitsPerByte)).toEqual(
    evaluated.map(({ perplexity: [one] }) => one!.bitsPerByte),
  );
  for (const { tokensPerSecond, firstTokenMs } of models) {
    expect(tokensPerSecond).toBeGreaterThan(0);
    expect(firstTokenMs).toBeGreaterThan(0);
  }
  // All small models have the vocabulary of the languages.
  for (const name of ['q8', 'q4', '700KB']) {
    const config = JSON.parse(await readFile(at(`sizes/${name}/config.json`), 'utf8'));
    expect(config.vocab_size).toBeLessThan(2048);
  }
  const fractions = steps.map(({ overall = -1 }) => overall);
  expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
  expect(fractions[0]).toBeGreaterThanOrEqual(0);
  expect(new Set(steps.map(({ detail }) => detail))).toContain('q8');
}, 240_000);

/** A tokenizer with one token for each of the words `w1 w2 ...`. */
const wordTokenizer = (wordCount: number) => ({
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  post_processor: null,
  decoder: null,
  pre_tokenizer: { type: 'WhitespaceSplit' },
  model: {
    type: 'WordLevel',
    unk_token: 'w0',
    vocab: Object.fromEntries(Array.from({ length: wordCount }, (_, word) => [`w${word}`, word])),
  },
});

it('has sizes by bits alone for a model in which nothing can be pruned', async () => {
  await mkdir(at('in'));
  await writeFile(
    at('in/model.onnx'),
    buildDecoder({ attention: unprunable(selfAttention()), ffn: unprunable(plainFfn) }),
  );
  await writeFile(at('in/tokenizer.json'), JSON.stringify(wordTokenizer(VOCABULARY)));
  await writeFile(at('in/tokenizer_config.json'), JSON.stringify({ unk_token: 'w0' }));
  await writeFile(at('mine.txt'), Array.from({ length: 400 }, (_, at) => `w${(at * at) % VOCABULARY}`).join(' '));
  const { models } = await choose({ model: at('in'), out: at('sizes'), text: at('mine.txt'), calibration });
  const [, q8, q4, between, ...below] = models;
  expect(below).toEqual([]);
  expect(between!.bytes).toBeLessThan(q8!.bytes);
  expect(between!.bytes).toBeGreaterThan(q4!.bytes);
  // Eight bits need no calibration, but the text calibrates q4.
  const eightBits = { allow: ['bits'] as const, dtypes: ['q8'] as const, targetSize: q8!.bytes };
  const { models: sized } = await choose({
    model: at('in'),
    out: at('eight'),
    text: at('mine.txt'),
    calibration,
    ...eightBits,
  });
  expect(sized.map(({ bytes }) => bytes)).toEqual([...models.slice(0, 3).map(({ bytes }) => bytes), q8!.bytes]);
}, 240_000);

it.each([
  [{ text: undefined }, /^text is missing/],
  [{ text: 'nowhere.txt' }, /^Cannot read the text nowhere.txt/],
  [{ test: 'nowhere.txt' }, /^Cannot read the text nowhere.txt/],
  [{ allow: ['bits'], dtypes: ['q8'], heal: true }, /^heal has no effect if only 8 bits are allowed/],
  [{ keepLanguages: ['en'], vocabulary: ['a'] }, /^keepLanguages has no effect with vocabulary/],
  [{ targetMemory: '1MB' }, /^unknown option "targetMemory"/],
])('refuses %j before it opens the model', async (given, message) => {
  await writeFile(at('mine.txt'), 'text');
  const choosing = choose({ model: at('none'), out: at('sizes'), text: at('mine.txt'), ...given } as never);
  await expect(choosing).rejects.toThrow(OptionError);
  await expect(choosing).rejects.toThrow(message);
});

it('refuses token ids as a text before it opens the model', async () => {
  await writeFile(at('ids.jsonl'), '{"input_ids":[1,2]}');
  const choosing = choose({ model: at('none'), out: at('sizes'), text: at('ids.jsonl') });
  await expect(choosing).rejects.toThrow(/ids\.jsonl: line 1 contains token ids/);
});

it.each([
  [{ test: 'short' }, /short\.txt: found 1 token; a text to measure on needs at least 2/],
  [{ text: 'short', test: 'mine' }, /short\.txt: found 1 token, and one window needs 32/],
  [{ targetSize: '1KB' }, /^targetSize is 1\.00 KB, and the smallest that the allowed reductions reach is/],
  [{ model: 'without' }, /without has no tokenizer\.json, which measuring bits per byte needs/],
])('refuses %j after it opens the model, before it writes files', async (given, message) => {
  await copyShortLlama(at('in'));
  await copyShortLlama(at('without'));
  await rm(at('without/tokenizer.json'));
  await writeFile(at('mine.txt'), 'Once upon a time. '.repeat(50));
  await writeFile(at('short.txt'), 'a');
  const { model = 'in', text = 'mine', test = text, ...others } = given as Record<string, string>;
  const paths = { model: at(model), text: at(`${text}.txt`), test: at(`${test}.txt`) };
  await expect(choose({ ...paths, out: at('sizes'), calibration, ...others })).rejects.toThrow(message);
  expect((await listFiles(folder())).filter((path) => path.startsWith('sizes'))).toEqual([]);
});

it('leaves out default sizes that the reductions cannot reach', async () => {
  const model = await copyShortLlama(at('in'));
  await writeFile(at('mine.txt'), (await readFile('examples/models/tiny-llama/text/prose.txt', 'utf8')).slice(0, 1500));
  const request = { model, out: at('sizes'), text: at('mine.txt'), calibration, certify: false };
  const { models } = await choose({ ...request, allow: ['heads'] });
  const largest = String(Math.round(0.9 * models[0]!.bytes));
  expect(models.map(({ name }) => name)).toEqual(['dense', 'q8', 'q4', largest]);
}, 240_000);

it('stops when it is aborted', async () => {
  const model = await copyShortLlama(at('in'));
  await writeFile(at('mine.txt'), 'Once upon a time. '.repeat(200));
  const controller = new AbortController();
  const request = { model, out: at('sizes'), text: at('mine.txt'), calibration, signal: controller.signal };
  const onProgress = ({ stage }: Progress) => stage === 'analyse' && controller.abort();
  await expect(choose({ ...request, onProgress })).rejects.toThrow(/abort/);
});

it('recommends the smallest model within mostLoss, or else the one that loses least', () => {
  const model = (name: string, bytes: number, bitsPerByte: number): MeasuredChoice => ({
    name,
    model: name,
    bytes,
    bitsPerByte,
    tokensPerSecond: 1,
    firstTokenMs: 1,
  });
  const models = [model('dense', 9, 1), model('q8', 5, 1.1), model('q4', 3, 1.2)];
  expect(recommend(models, 0.02).name).toBe('q8');
  expect(recommend(models, 0.15).name).toBe('q8');
  expect(recommend(models, 0.3).name).toBe('q4');
});

it('tries sizes that the reductions can reach', () => {
  const plain = [{ bytes: { before: 400e6, after: 160e6 } }, { bytes: { before: 400e6, after: 90e6 } }] as const;
  expect(defaultSizes({}, plain, 72e6)).toEqual([120e6, 81e6, 72e6]);
  expect(defaultSizes({ allow: ['bits'] }, plain, 80e6)).toEqual([120e6, 81e6]);
  expect(defaultSizes({ allow: ['neurons'] }, plain, 100e6)).toEqual([360e6, 320e6]);
  expect(defaultSizes({ allow: ['heads'] }, plain, 370e6)).toEqual([]);
});
