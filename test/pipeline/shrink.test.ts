import { cp, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { OptionError } from '../../src/errors.js';
import { prune, quantize, shrink, trimVocabulary } from '../../src/node.js';
import { copyShortLlama, SHORT_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const calibration = { windowCount: 4, windowLength: 64, generate: false } as const;
const quick = { calibration, evaluation: false } as const;

it('meets a size with fewer units and bits, certified, and reports all candidates', async () => {
  const model = SHORT_LLAMA;
  const [report] = await shrink({ ...quick, model, out: at('out'), targetSize: '620KB', dtypes: ['q8', 'q4'] });
  const { size, bytes, certificate, dtypes } = report;
  const [written] = dtypes!;
  expect((await stat(at(`out/${written!.file}`))).size).toBe(bytes.after);
  expect(bytes.after).toBeLessThanOrEqual(620_000);
  expect(bytes.after).toBeGreaterThan(590_000);
  expect(certificate).toMatchObject({ opened: true, passed: true });
  const chosen = size!.candidates.filter((candidate) => candidate.chosen);
  expect(chosen).toHaveLength(1);
  expect(chosen[0]!.bytes).toBe(bytes.after);
  const total = ({ divergence }: (typeof chosen)[number]) => divergence.pruning + divergence.quantising;
  const fitting = size!.candidates.filter((candidate) => candidate.bytes <= 620_000);
  expect(total(chosen[0]!)).toBe(Math.min(...fitting.map(total)));
  expect(size!.candidates.filter(({ kind }) => kind === 'plain')).toHaveLength(2);
  // The same call returns the finished result.
  const [again] = await shrink({ ...quick, model, out: at('out'), targetSize: '620KB', dtypes: ['q8', 'q4'] });
  expect(again).toMatchObject({ createdAt: report.createdAt });
}, 240_000);

it('takes the bytes that it counted, also where external data is aligned', async () => {
  const model = 'test/fixtures/exporters/llama-genai018-fp32';
  const windows = { windowCount: 2, windowLength: 16, generate: false } as const;
  // The best model of this size has both calibrated and plain rounding.
  const given = { model, ...quick, calibration: windows, certify: false, targetSize: 50_630 };
  const [{ bytes, size }] = await shrink({ ...given, out: at('out'), allow: ['bits'] });
  const { maps, bytes: counted } = size!.candidates.find((candidate) => candidate.chosen)!;
  expect(Object.keys(maps)).toEqual(['q8', 'q4']);
  expect(bytes.after).toBe(counted);
  expect(bytes.after).toBeLessThanOrEqual(50_630);
}, 240_000);

it('chooses a block size for each linear layer, with larger blocks only where they divide its inputs', async () => {
  const given = { ...quick, model: SHORT_LLAMA, targetSize: '560KB', dtypes: ['q4'] } as const;
  const [{ size, bytes, certificate, sparsity }] = await shrink({ ...given, out: at('out') });
  const { maps, bytes: counted } = size!.candidates.find((candidate) => candidate.chosen)!;
  expect(Object.keys(maps)).toEqual(['q4', 'q4/64']);
  expect(sparsity.achieved).toBeGreaterThan(0);
  expect(bytes.after).toBe(counted);
  expect(certificate).toMatchObject({ opened: true, passed: true });
  const proto = fromBinary(ModelProtoSchema, await readFile(at('out/onnx/model_q4.onnx')));
  const products = proto.graph!.node.filter(({ opType }) => opType === 'MatMulNBits');
  const blocks = products.map(({ attribute }) => {
    const integer = (name: string) => Number(attribute.find((each) => each.name === name)!.i);
    return { inputs: integer('K'), size: integer('block_size') };
  });
  expect(new Set(blocks.map((each) => each.size))).toEqual(new Set([32, 64]));
  expect(blocks.filter(({ inputs, size: own }) => own > 32 && inputs % own > 0)).toEqual([]);
  const halves = proto.graph!.initializer.filter(({ dataType }) => dataType === 10).map(({ name }) => name);
  const casts = proto.graph!.node.filter(({ opType, input }) => opType === 'Cast' && halves.includes(input[0]!));
  expect(casts.length).toBe(halves.length);
  // Every linear layer, but not the embedding, whose scales are looked up.
  expect(casts.length).toBe(products.length);
}, 240_000);

it('keeps the block size of codes that the model came with', async () => {
  const source = { rounding: 'nearest', report: false, certify: false, evaluation: false } as const;
  await quantize({ ...source, model: SHORT_LLAMA, out: at('q4'), dtype: 'q4', blockSize: 64 });
  const given = { ...quick, model: at('q4'), certify: false, targetSize: '520KB' } as const;
  const [{ size }] = await shrink({ ...given, out: at('out'), allow: ['bits'], dtypes: ['q8', 'q4', 'q2'] });
  const all = size!.candidates.map(({ maps }) => maps);
  // The embedding came in 8 bits.
  for (const maps of all) expect(maps.q4 ?? 0).toBeLessThanOrEqual(1);
  expect(all.flatMap(Object.keys)).toContain('q2');
  const plain = size!.candidates.find(({ kind, maps }) => kind === 'plain' && maps['q4/64'] === 14);
  // Scales are stored in float16.
  expect(plain!.divergence.pruning).toBe(0);
  expect(plain!.divergence.quantising).toBeLessThan(1e-6);
}, 240_000);

it('writes several sizes, each in a folder of its own', async () => {
  const model = await copyShortLlama(at('in'));
  await mkdir(at('out'));
  const reports = await shrink({
    ...quick,
    model,
    out: at('out'),
    certify: false,
    targetSize: ['1.2MB', 900_000],
    allow: ['bits'],
  });
  expect(reports).toHaveLength(2);
  const page = JSON.parse(await readFile(at('out/1.2MB/fang-prune-report.json'), 'utf8'));
  expect(page.bytes.after).toBeLessThanOrEqual(1_200_000);
  expect((await stat(at('out/900000'))).isDirectory()).toBe(true);
  for (const { kind } of page.size.candidates) expect(['plain', 'bits']).toContain(kind);
}, 240_000);

it('compares candidates of a graph whose blocks share shapes that pruning changes', async () => {
  const model = 'test/fixtures/exporters/llama-dynamo215op23-fp32';
  const tokens = Int32Array.from({ length: 256 }, (_, at) => (at * at) % 64);
  const given = { model, ...quick, calibration: { source: { tokens }, windowCount: 4, windowLength: 32 } } as const;
  const [{ sparsity, size }] = await shrink({ ...given, out: at('out'), targetSize: '36.5KB', dtypes: ['q8'] });
  expect(sparsity.achieved).toBeGreaterThan(0.05);
  expect(size!.candidates.map(({ kind }) => kind)).toContain('pruned');
  const { candidates } = await prune({ ...given, out: at('pruned'), sparsity: 0.3, allocation: 'compared' });
  expect(candidates!.length).toBeGreaterThan(2);
}, 240_000);

const VOCABULARY = 'fang-prune-vocabulary.json';

it('trims the vocabulary first, to the bytes of trimVocabulary followed by shrink', async () => {
  const model = await copyShortLlama(at('in'));
  const reductions = { allow: ['bits'], dtypes: ['q4'] } as const;
  const asked = { ...quick, ...reductions, certify: false, targetSize: '530KB' };
  const [report] = await shrink({ ...asked, model, out: at('out'), vocabularySize: 900, certify: true });
  const { vocabulary, bytes, certificate } = report;
  expect(vocabulary).toMatchObject({ rows: { before: 2048, after: 900 }, certificate: { equal: true, tokens: 128 } });
  expect(bytes.before).toBe((await stat(join(model, 'onnx/model.onnx'))).size);
  expect(bytes.after).toBeLessThanOrEqual(530_000);
  expect(certificate).toMatchObject({ opened: true, passed: true });
  await trimVocabulary({ model, out: at('trimmed'), vocabularySize: 900, certify: false });
  await shrink({ ...asked, model: at('trimmed'), out: at('twice') });
  const names = (await readdir(at('twice'), { recursive: true })).filter((name) => /(onnx|json)$/.test(name));
  expect(names).toContain('onnx/model_q4.onnx');
  for (const name of names.filter((name) => name !== 'onnx' && !name.startsWith('fang-prune-')))
    expect([name, await readFile(at(`out/${name}`))]).toEqual([name, await readFile(at(`twice/${name}`))]);
  const { kept } = JSON.parse(await readFile(at(`out/${VOCABULARY}`), 'utf8'));
  expect(kept).toEqual(JSON.parse(await readFile(at(`trimmed/${VOCABULARY}`), 'utf8')).kept);
  const again = await shrink({ ...asked, model, out: at('out'), vocabularySize: 900 });
  expect(again[0].createdAt).toBe(report.createdAt);
  // The same model with another vocabulary is another result.
  await expect(shrink({ ...asked, model, out: at('out'), vocabularySize: 901 })).rejects.toThrow(/exists/);
}, 240_000);

it('keeps tokens of 3/4 of the text, and measures bits per byte on the rest', async () => {
  const model = await copyShortLlama(at('in'));
  const words = await readFile('examples/models/tiny-llama/text/prose.txt', 'utf8');
  await writeFile(at('mine.txt'), words.slice(0, 9000));
  const [report] = await shrink({
    model,
    out: at('out'),
    targetSize: '440KB',
    dtypes: ['q4'],
    allow: ['neurons', 'bits', 'vocabulary'],
    certify: false,
    vocabularySize: 600,
    text: at('mine.txt'),
    calibration,
    evaluation: { texts: [at('mine.txt')], windowLength: 64, windowCount: 2 },
  });
  expect(report.size!.allow).toEqual(['neurons', 'bits']);
  const { reasons, bitsPerByte } = report.vocabulary!;
  expect(reasons.text).toBeGreaterThan(50);
  expect(bitsPerByte).toMatchObject({ from: 'source' });
  expect(bitsPerByte!.textBytes).toBeLessThan(2500);
  expect(bitsPerByte!.after).toBeGreaterThan(bitsPerByte!.before);
  // Each model reads the text in its own tokens; the perplexity is for each token of the dense one.
  const [metric] = report.metrics!;
  const ratio = metric!.bitsPerByte!.pruned / metric!.bitsPerByte!.dense!;
  expect(Math.log(metric!.pruned) / Math.log(metric!.dense!)).toBeCloseTo(ratio, 6);
}, 240_000);

it('does not accept a result with bits per byte of another text as finished', async () => {
  const model = await copyShortLlama(at('in'));
  const words = await readFile('examples/models/tiny-llama/text/prose.txt', 'utf8');
  const settings = { out: at('out'), targetSize: '1MB', allow: ['bits'], dtypes: ['q8'], certify: false } as const;
  const vocabulary = Array.from({ length: 900 }, (_, id) => id);
  const shrinkFor = async (text: string) => {
    await writeFile(at('mine.txt'), text);
    return shrink({ ...settings, evaluation: false, model, vocabulary, text: at('mine.txt') });
  };
  const [first] = await shrinkFor(words.slice(0, 4000));
  expect((await shrinkFor(words.slice(0, 4000)))[0].createdAt).toBe(first.createdAt);
  await expect(shrinkFor(words.slice(4000, 8000))).rejects.toThrow('exists');
}, 240_000);

it('trims separate embedding models, and quantised models that need no other change', async () => {
  await cp('test/fixtures/exporters/llama-dynamo215op18embeds-fp32', at('embeds'), { recursive: true });
  const settings = { ...quick, certify: false, report: false } as const;
  const whole = { ...settings, targetSize: '10MB', allow: ['neurons'] } as const;
  await shrink({ ...whole, model: at('embeds'), out: at('out'), vocabularySize: 56 });
  await trimVocabulary({ model: at('embeds'), out: at('alike'), vocabularySize: 56, certify: false });
  const [embeddings] = (await readdir(at('alike'), { recursive: true })).filter((name) => /embed.*onnx$/.test(name));
  expect(await readFile(at(`out/${embeddings}`))).toEqual(await readFile(at(`alike/${embeddings}`)));
  const model = await copyShortLlama(at('in'));
  const { calibration: _, ...plain } = settings;
  await quantize({ ...plain, model, out: at('coded'), dtype: 'q4', rounding: 'nearest' });
  const [{ vocabulary, bytes }] = await shrink({ ...whole, model: at('coded'), out: at('cut'), vocabularySize: 900 });
  expect(bytes).toEqual({ before: vocabulary!.bytes.before, after: vocabulary!.bytes.after });
  expect(bytes.after).toBeLessThan(bytes.before - 100_000);
}, 240_000);

it.each([
  [
    { targetSize: '10KB' },
    /^targetSize is 10.0 KB, and the smallest that the allowed reductions reach is \d+ KB: .*embed/,
  ],
  [{ targetSize: '60 apples' }, /^targetSize is "60 apples"; expected bytes above 0/],
  [{ targetSize: 0 }, /^targetSize is 0; expected/],
  [{ targetSize: ['60MB', '1e3MB'] }, /^targetSize contains "1e3MB"; expected bytes above 0, or a text/],
  [{ targetSize: ['1MB', '1 MB'] }, /^targetSize names 1MB twice/],
  [{ targetSize: ['1MB', '2MB', '1mb'] }, /^targetSize names 1mb twice/],
  [{}, /^targetSize is missing/],
  [
    { targetSize: '1MB', allow: ['weights'] },
    /^allow contains "weights"; expected one of neurons, heads, experts, bits, vocabulary/,
  ],
  [{ targetSize: '1MB', allow: [] }, /^allow is empty/],
  [
    { targetSize: '1MB', allow: ['bits', 'vocabulary'] },
    /^allow includes the vocabulary, and no option names the tokens/,
  ],
  [
    { targetSize: '1MB', allow: ['vocabulary'], keepLanguages: ['en'] },
    /^allow names the vocabulary alone, .*\(trim-vocabulary\), or add one or several of neurons, heads, experts, bits$/,
  ],
  [{ targetSize: '1MB', allow: ['heads'], dtypes: ['q4'] }, /^dtypes has no effect unless bits are allowed/],
  [{ targetSize: '1MB', dtypes: ['fp16'] }, /^dtypes contains "fp16"; expected one of q8, q4, q4f16, q2, q2f16/],
  [{ targetSize: '1MB', dtypes: ['q8', 'q4f16'] }, /^dtypes mixes q8 and q4f16/],
  [
    { targetSize: '1MB', allow: ['bits'], dtypes: ['q8'], heal: true },
    /^heal has no effect if only 8 bits are allowed/,
  ],
  [{ targetSize: '1MB', allow: ['bits'], dtypes: ['q8'], text: 'a.txt' }, /^text has no effect if only 8 bits/],
  [{ targetSize: '1MB', vocabularySize: 100 }, /^vocabularySize is 100, and \d+ tokens always remain/],
  [{ targetSize: '1MB', vocabulary: ['a'], keepLanguages: ['en'] }, /^keepLanguages has no effect with vocabulary/],
  [{ targetSize: '1MB', vocabularySize: 900, recipe: 'r' }, /^recipe applies only to the model/],
  [
    { targetSize: '1MB', vocabularySize: 900, calibration: { source: { tokens: [[1, 2]] } } },
    /^calibration.source contains token ids, which are other tokens/,
  ],
  [
    { targetSize: '1MB', vocabularySize: 900, calibration: { generate: { startToken: 1 } } },
    /^calibration.generate.startToken is an id, which is another token/,
  ],
])('refuses %j', async (given, message) => {
  const asked = shrink({ model: SHORT_LLAMA, out: at('out'), ...given } as never);
  await expect(asked).rejects.toThrow(OptionError);
  await expect(asked).rejects.toThrow(message);
});
