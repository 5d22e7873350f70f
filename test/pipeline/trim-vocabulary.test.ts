import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { ModelFormatError, NumericalError, OptionError } from '../../src/errors.js';
import { trimVocabulary } from '../../src/node.js';
import { testEngine } from '../support/engine.js';
import { copyShortLlama } from '../support/short-llama.js';
import { buildDecoder, VOCABULARY } from '../support/small-decoder.js';
import { fillDisk, itWithMounts, mountSmallDisk } from '../support/small-disk.js';
import { hashFolder, useTemporaryFolder } from '../support/temporary-folder.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const engine = testEngine;

const readJson = async (...path: string[]) => JSON.parse(await readFile(join(...path), 'utf8'));

/** Adds files that models of other libraries have. */
async function makeModel(): Promise<string> {
  const model = await copyShortLlama(join(folder(), 'model'));
  const { model: bpe } = await readJson(model, 'tokenizer.json');
  const write = (name: string, value: unknown) =>
    writeFile(join(model, name), typeof value === 'string' ? value : JSON.stringify(value));
  await write('vocab.json', bpe.vocab);
  await write('merges.txt', '#version: 0.2\nstale');
  await write('added_tokens.json', { '<|endoftext|>': 0 });
  await write('tokenizer.model', 'pieces');
  await write('chat_template.jinja', `{{ '<|endoftext|>Ünser' }}{% for m in messages %}{{ m['content'] }}{% endfor %}`);
  await write('generation_config.json', { bos_token_id: 0, eos_token_id: [0, 1999], suppress_tokens: [1, 1998] });
  return model;
}

it('writes a folder in which every file has the new ids', async () => {
  const model = await makeModel();
  const out = join(folder(), 'out');
  const trimmed = await trimVocabulary({ model, out, vocabularySize: 900, engine });
  expect(trimmed.rows).toEqual({ before: 2048, after: 900 });
  expect(trimmed.merges).toEqual({ before: 1791, after: 643 });
  expect(trimmed.certificate).toMatchObject({ equal: true, gap: 0, tokens: 128 });
  expect(trimmed.bytes.after).toBe(trimmed.bytes.before - 1148 * 192 * 4);
  expect(trimmed.tables).toEqual([
    {
      name: 'model.embed_tokens.weight',
      rows: trimmed.rows,
      bytes: { before: 2048 * 192 * 4, after: 900 * 192 * 4 },
    },
  ]);
  expect(trimmed.remarks).toEqual([
    'not copied, since they contain removed tokens: tokenizer.model; tokenizer.json replaces them',
  ]);
  expect((await readJson(out, 'config.json')).vocab_size).toBe(900);
  // The last id is an eos_token_id, so it is kept.
  expect(await readJson(out, 'generation_config.json')).toEqual({
    bos_token_id: 0,
    eos_token_id: [0, 899],
    suppress_tokens: [1],
  });
  const tokenizer = await readJson(out, 'tokenizer.json');
  expect(await readJson(out, 'vocab.json')).toEqual(tokenizer.model.vocab);
  expect((await readFile(join(out, 'merges.txt'), 'utf8')).split('\n')).toHaveLength(643 + 2);
  expect(await readdir(out)).not.toContain('tokenizer.model');
  const { kept } = await readJson(out, 'fang-prune-vocabulary.json');
  expect(kept).toHaveLength(900);
  const [before, after] = [await readJson(model, 'tokenizer.json'), tokenizer].map((json) => createTokenizer(json, {}));
  const template = [...before!.encode('<|endoftext|>Ünser')].map((id) => kept.indexOf(id));
  expect([...after!.encode('<|endoftext|>Ünser')]).toEqual(template);
});

it('keeps special tokens that only the configuration of the tokenizer names', async () => {
  const model = await copyShortLlama(join(folder(), 'model'));
  const { model: bpe } = await readJson(model, 'tokenizer.json');
  const [pad, sep, image] = Object.keys(bpe.vocab).filter((token) => bpe.vocab[token] >= 2045);
  const config = {
    ...(await readJson(model, 'tokenizer_config.json')),
    pad_token: pad,
    extra_special_tokens: { image },
  };
  await writeFile(join(model, 'tokenizer_config.json'), JSON.stringify(config));
  await writeFile(join(model, 'special_tokens_map.json'), JSON.stringify({ sep_token: { content: sep } }));
  const out = join(folder(), 'out');
  await trimVocabulary({ model, out, vocabularySize: 900, engine, certify: false });
  const { vocab } = (await readJson(out, 'tokenizer.json')).model;
  expect(Object.keys(vocab)).toEqual(expect.arrayContaining([pad, sep, image]));
});

it('renumbers the ids of processors and of configuration next to the graph, and keeps their tokens', async () => {
  const model = await copyShortLlama(join(folder(), 'model'));
  await writeFile(join(model, 'processor_config.json'), JSON.stringify({ image_token_id: 1999, image_seq_len: 1999 }));
  await writeFile(join(model, 'onnx/config.json'), JSON.stringify({ vocab_size: 2048, eos_token_id: [0, 1998] }));
  const out = join(folder(), 'out');
  await trimVocabulary({ model, out, vocabularySize: 900, engine, certify: false });
  expect(await readJson(out, 'processor_config.json')).toEqual({ image_token_id: 899, image_seq_len: 1999 });
  expect(await readJson(out, 'onnx/config.json')).toEqual({ vocab_size: 900, eos_token_id: [0, 898] });
});

it('keeps the tokens of a template where no space is put in front of its texts', async () => {
  const model = join(folder(), 'model');
  await mkdir(model);
  const pieces = [
    '<unk>',
    '<s>',
    '</s>',
    ...'\u2581|<>:abcdefghijklmnopqrstuvwxyz',
    'user',
    '\u2581user',
    'sys',
    'odd',
    '</',
    '>:',
  ];
  const space = { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'first', split: true };
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const tokenizer = {
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, ...special })),
    normalizer: null,
    pre_tokenizer: space,
    post_processor: null,
    decoder: space,
    model: { type: 'Unigram', unk_id: 0, vocab: pieces.map((piece, id) => [piece, id === 0 ? -9 : -1]) },
  };
  const chat_template = "{% for m in messages %}{{ '<s>' + m.role + ': ' + m.content }}{% endfor %}";
  await writeFile(join(model, 'model.onnx'), buildDecoder());
  await writeFile(join(model, 'config.json'), JSON.stringify({ vocab_size: VOCABULARY }));
  await writeFile(join(model, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(join(model, 'tokenizer_config.json'), JSON.stringify({ chat_template }));
  const out = join(folder(), 'out');
  await trimVocabulary({ model, out, vocabulary: ['a'], engine, certify: false });
  const { vocab } = (await readJson(out, 'tokenizer.json')).model as { readonly vocab: readonly [string, number][] };
  const remaining = vocab.map(([piece]) => piece);
  expect(remaining).toEqual(expect.arrayContaining(['\u2581user', 'user', 'sys']));
  expect(remaining).not.toContain('odd');
});

it('gives the same bytes from a saved list of tokens, and returns a finished result', async () => {
  const model = await copyShortLlama(join(folder(), 'model'));
  const [first, again] = [join(folder(), 'first'), join(folder(), 'again')];
  const made = await trimVocabulary({ model, out: first, keepLanguages: ['en'], certify: false });
  await trimVocabulary({
    model,
    out: again,
    vocabulary: join(first, 'fang-prune-vocabulary.json'),
    certify: false,
  });
  expect(await hashFolder(again)).toBe(await hashFolder(first));
  const found = await trimVocabulary({ model, out: first, keepLanguages: ['en'], certify: false });
  expect(found).toMatchObject({ sha256: made.sha256, rows: made.rows });
  expect(found.sideFiles).toBeUndefined();
  const other = trimVocabulary({ model, out: first, keepLanguages: ['de'], certify: false });
  await expect(other).rejects.toThrow(OptionError);
  await expect(trimVocabulary({ model, out: again, vocabulary: ['a', 'b'], certify: false })).rejects.toThrow(/exists/);
});

it('reports the sizes in a dry run, and writes no files', async () => {
  const model = await copyShortLlama(join(folder(), 'model'));
  const before = await hashFolder(folder());
  const text = join(TINY_LLAMA, 'README.md');
  const { rows, reasons, out } = await trimVocabulary({
    model,
    dryRun: true,
    vocabularySize: 500,
    texts: [text],
    engine,
  });
  expect(rows.after).toBe(500);
  expect(reasons.text).toBeGreaterThan(0);
  expect(out).toBeUndefined();
  expect(await hashFolder(folder())).toBe(before);
});

it('keeps the tokens of the texts of a .jsonl file', async () => {
  const model = await copyShortLlama(join(folder(), 'model'));
  const content = await readFile(join(TINY_LLAMA, 'README.md'), 'utf8');
  const line = join(folder(), 'line.jsonl');
  await writeFile(line, JSON.stringify({ text: content }));
  const reasonsOf = async (text: string) =>
    (await trimVocabulary({ model, dryRun: true, vocabularySize: 900, texts: [text], engine })).reasons;
  expect(await reasonsOf(line)).toEqual(await reasonsOf(join(TINY_LLAMA, 'README.md')));
});

it('trims an embedding model with its decoder', async () => {
  const model = join(folder(), 'model');
  await cp('test/fixtures/exporters/llama-dynamo215op18embeds-fp32', model, { recursive: true });
  const out = join(folder(), 'out');
  const trimmed = await trimVocabulary({ model, out, vocabularySize: 56, engine });
  expect(trimmed.tables.map(({ rows }) => rows.after)).toEqual([56, 56]);
  expect(trimmed.certificate).toMatchObject({ equal: true });
});

it('does not certify a model with only NaN as logits, and leaves no files', async () => {
  const model = await copyShortLlama(join(folder(), 'model'), ({ graph }) => {
    const weight = graph!.initializer.find(({ dims }) => dims.includes(256n))!;
    weight.rawData = weight.rawData.slice().fill(0xff, 0, 4);
  });
  const trim = trimVocabulary({ model, out: join(folder(), 'out'), vocabularySize: 900, engine });
  await expect(trim).rejects.toThrow(NumericalError);
  await expect(trim).rejects.toThrow(/^all logits of the original are NaN/);
  expect(await readdir(folder())).toEqual(['model']);
});

itWithMounts('checks free space before it writes', async () => {
  const disk = join(folder(), 'disk');
  await mkdir(disk);
  const unmount = mountSmallDisk(disk, 20);
  try {
    fillDisk(disk, 1e6);
    const model = await copyShortLlama(join(folder(), 'model'));
    const trimming = trimVocabulary({ model, out: join(disk, 'out'), vocabularySize: 900, engine });
    await expect(trimming).rejects.toThrow(OptionError);
    await expect(trimming).rejects.toThrow(/it needs at least \d{7} bytes, and .* has \d+ free/);
    expect(await readdir(disk)).toEqual(['filler']);
  } finally {
    unmount();
  }
});

it('leaves no files when it is aborted', async () => {
  const model = await copyShortLlama(join(folder(), 'model'));
  const controller = new AbortController();
  const onProgress = ({ stage }: { readonly stage: string }) => stage === 'save' && controller.abort();
  const out = join(folder(), 'out');
  const run = trimVocabulary({ model, out, keepLanguages: ['en'], engine, onProgress, signal: controller.signal });
  await expect(run).rejects.toThrow(/abort/);
  expect(await readdir(folder())).toEqual(['model']);
});

it.each<[string, object, RegExp]>([
  ['no selection', {}, /keepLanguages is missing; select tokens by it, by vocabularySize or by vocabulary$/],
  ['texts alone', { texts: ['a.txt'] }, /texts alone do not predict/],
  ['a list and languages', { vocabulary: ['a'], keepLanguages: ['en'] }, /keepLanguages has no effect with vocabulary/],
  ['an unknown token', { vocabulary: ['a', 'nosuchtoken'] }, /names "nosuchtoken" \(entry 2\)/],
  ['an id out of range', { vocabulary: [0, 2048] }, /names the id 2048/],
  ['an empty list', { vocabulary: [] }, /vocabulary names no token/],
  ['an empty list of languages', { keepLanguages: [] }, /keepLanguages is an empty list, so only ASCII would remain/],
  ['an id as text', { vocabulary: ['1999'] }, /"1999" \(entry 1\).*and ids as numbers in a list in a \.json file$/],
  ['no output folder', { keepLanguages: ['en'], out: undefined }, /out is missing/],
])('refuses %s', async (_, selection, message) => {
  const out = join(folder(), 'out');
  const error = await trimVocabulary({ model: TINY_LLAMA, out, engine, ...selection }).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(OptionError);
  expect(String(error)).toMatch(message);
});

it("refuses a model without its tokenizer, and with another model's", async () => {
  const model = await copyShortLlama(join(folder(), 'model'));
  const trim = () => trimVocabulary({ model, dryRun: true, keepLanguages: ['en'], engine });
  const tokenizer = await readJson(model, 'tokenizer.json');
  const vocab = { ...tokenizer.model.vocab, extra: 2048 };
  await writeFile(
    join(model, 'tokenizer.json'),
    JSON.stringify({ ...tokenizer, model: { ...tokenizer.model, vocab } }),
  );
  await expect(trim()).rejects.toThrow(ModelFormatError);
  await rm(join(model, 'tokenizer.json'));
  await expect(trim()).rejects.toThrow(/has no tokenizer.json, which trimming a vocabulary needs/);
});
