import { readFileSync } from 'node:fs';
import { byteToken } from '../../src/calibration/token-bytes.js';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { ModelFormatError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import { checkTokenizerFits } from '../../src/pipeline/plan-trimming.js';
import { chooseTokens, type TokenSelection } from '../../src/vocabulary/choose-tokens.js';
import { renumberIds } from '../../src/vocabulary/renumbered-ids.js';
import { readTokenizerFile } from '../../src/vocabulary/tokenizer-file.js';
import { formatMerges, idsNamedByTokenizer, trimTokenizer } from '../../src/vocabulary/trim-tokenizer.js';
import { vocabularyFileOf } from '../../src/vocabulary/vocabulary-files.js';
import { randomTexts, textsOfPieces } from '../support/random-texts.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

type Json = Readonly<Record<string, unknown>>;

const byteLevel = JSON.parse(readFileSync(`${TINY_LLAMA}/tokenizer.json`, 'utf8')) as Json;

const added = (id: number, content: string) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});
const idsOf = (contents: readonly string[]) => Object.fromEntries(contents.map((content, id) => [content, id]));

/** Like converted SentencePiece models: special tokens, bytes, words, characters. */
const WORDS = [
  'he',
  'll',
  'llo',
  'hello',
  '\u2581hello',
  '\u2581w',
  'or',
  'ld',
  'orld',
  '\u2581world',
  'ß',
  'ñ',
  'привет',
  'пр',
];
const CHARACTERS = [...'\u2581helowrdпривет日本'];
const BYTES = Array.from({ length: 256 }, (_, byte) => byteToken(byte));
const PIECES = ['<unk>', '<s>', '</s>', ...BYTES, ...WORDS, ...CHARACTERS];
const MERGES = [
  'h e',
  'l l',
  'll o',
  'he llo',
  '\u2581 hello',
  '\u2581 w',
  'o r',
  'l d',
  'or ld',
  '\u2581w orld',
  'п р',
];

const byteFallback: Json = {
  version: '1.0',
  truncation: { direction: 'Right', max_length: 512, strategy: 'LongestFirst', stride: 0 },
  padding: { strategy: 'BatchLongest', direction: 'Right', pad_id: 2, pad_type_id: 0, pad_token: '</s>' },
  added_tokens: [added(0, '<unk>'), added(1, '<s>'), added(2, '</s>')],
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '\u2581' },
      { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
  },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: { type: 'BPE', unk_token: '<unk>', fuse_unk: true, byte_fallback: true, vocab: idsOf(PIECES), merges: MERGES },
};

const LETTERS = [...'abcdefghijklmnopqrstuvwxyz0123456789'];
const wordPiece: Json = {
  version: '1.0',
  added_tokens: [added(0, '[UNK]'), added(1, '[CLS]'), added(2, '[SEP]')],
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: { type: 'BertProcessing', sep: ['[SEP]', 2], cls: ['[CLS]', 1] },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: idsOf([
      '[UNK]',
      '[CLS]',
      '[SEP]',
      'the',
      'them',
      '##ing',
      '##s',
      'bring',
      ...LETTERS,
      ...LETTERS.filter((letter) => letter !== 's').map((letter) => `##${letter}`),
    ]),
  },
};

const unigram: Json = {
  ...byteFallback,
  model: {
    type: 'Unigram',
    unk_id: 0,
    byte_fallback: true,
    vocab: PIECES.map((piece, id) => [piece, id < 3 + BYTES.length ? 0 : -1 - id / 100]),
  },
};

const TOKENIZERS: Readonly<Record<string, Json>> = {
  'byte-level BPE': byteLevel,
  'BPE with byte fallback': byteFallback,
  WordPiece: wordPiece,
  Unigram: unigram,
};

async function trim(json: Json, selection: Omit<TokenSelection, 'named'>) {
  const file = readTokenizerFile(json);
  const chosen = await chooseTokens(file, { ...selection, named: new Set(idsNamedByTokenizer(file)) });
  const ids = renumberIds(chosen.keep);
  return { file, ids, ...chosen, json: trimTokenizer(file, ids) };
}

const contentsOf = (json: Json): readonly string[] => [...readTokenizerFile(json).modelIds.keys()];

it.each(Object.keys(TOKENIZERS))(
  'decodes any text as before, with the same tokens if all are kept: %s',
  async (kind) => {
    const json = TOKENIZERS[kind]!;
    expect(readTokenizerFile(json).kind).toBe(kind);
    const listed = [...readTokenizerFile(json).modelIds.values()].filter((id) => id % 3 === 0);
    const { ids, json: trimmed, keep } = await trim(json, { listed });
    expect(keep.length).toBeLessThan(contentsOf(json).length);
    const [before, after] = [createTokenizer(json, {}), createTokenizer(trimmed, {})];
    const pieces = [...keep].map((id) => before.decode([id])).filter((text) => !text.includes('\ufffd'));
    let [wholeCount, changedCount] = [0, 0];
    for (const text of [...randomTexts(120), ...textsOfPieces(pieces, 120), 'hello world', 'bring them the things']) {
      const [old, found] = [before.encode(text), after.encode(text)];
      expect(after.decode(found)).toBe(before.decode(old));
      if (old.every((id) => ids.newId(id) !== undefined)) {
        wholeCount += 1;
        expect([...found]).toEqual([...old].map((id) => ids.newId(id)));
      } else changedCount += 1;
    }
    expect(wholeCount).toBeGreaterThan(50);
    expect(changedCount).toBeGreaterThan(0);
  },
);

it('keeps the tokens that others are merged from, and counts them', async () => {
  const id = readTokenizerFile(byteFallback).modelIds.get('\u2581hello')!;
  const { file, keep, counts, json } = await trim(byteFallback, { listed: [id] });
  const remaining = [...keep].slice(3 + BYTES.length).map((kept) => file.contents[kept]);
  expect(remaining).toEqual(['he', 'll', 'llo', 'hello', '\u2581hello', '\u2581', 'h', 'e', 'l', 'o']);
  expect(counts).toEqual({ always: 260, text: 0, chosen: 1, parts: 8 });
  expect((json.model as Json).merges).toEqual(MERGES.slice(0, 5));
});

it('keeps the parts by the last rank of a merge that is listed twice', async () => {
  const contents = ['<unk>', ...'abcd', 'ab', 'bc', 'cd', 'abc'];
  const merges = ['a b', 'b c', 'a b', 'c d', 'a bc', 'ab c'];
  const model = { type: 'BPE', unk_token: '<unk>', vocab: idsOf(contents), merges };
  const json = { ...byteFallback, added_tokens: [added(0, '<unk>')], normalizer: null, post_processor: null, model };
  const { ids, json: trimmed } = await trim({ ...json, padding: null }, { listed: [7, 8] });
  const old = createTokenizer(json, {}).encode('abcd');
  expect([...old].map((id) => contents[id])).toEqual(['abc', 'd']);
  expect([...createTokenizer(trimmed, {}).encode('abcd')]).toEqual([...old].map((id) => ids.newId(id)));
});

it('keeps another mark for a space, and words behind it by language', async () => {
  const json = JSON.parse(JSON.stringify(byteFallback).replaceAll('\u2581', 'Ġ')) as Json;
  const { file, keep } = await trim(json, { listed: [] });
  expect([...keep].map((id) => file.contents[id])).toEqual([...PIECES.slice(0, 3 + BYTES.length), 'Ġ']);
  const { file: words, keep: english } = await trim(json, { languages: ['en'] });
  expect([...english].map((id) => words.contents[id])).toContain('Ġworld');
});

const FALLBACK_MODEL = byteFallback.model as Json;

it.each<[name: string, Json]>([
  [
    'does not decode bytes',
    { ...byteFallback, decoder: { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' } },
  ],
  [
    'lacks some bytes',
    { ...byteFallback, model: { ...FALLBACK_MODEL, vocab: idsOf(PIECES.filter((piece) => piece !== byteToken(0))) } },
  ],
])('keeps characters if the tokenizer %s', async (_, json) => {
  const { modelIds } = readTokenizerFile(json);
  const { json: trimmed, file, keep } = await trim(json, { listed: [] });
  const remaining = new Set([...keep].map((id) => file.contents[id]));
  expect([...CHARACTERS, ...BYTES].filter((token) => modelIds.has(token) && !remaining.has(token))).toEqual([]);
  const [before, after] = [createTokenizer(json, {}), createTokenizer(trimmed, {})];
  for (const text of ['日本 hello', 'привет мир', ...randomTexts(40)])
    expect(after.decode(after.encode(text))).toBe(before.decode(before.encode(text)));
});

it.each(['Unigram', 'BPE with ignore_merges'])(
  'keeps pieces with a character that has no token of its own, which would become unknown: %s',
  async (kind) => {
    const pieces = ['<unk>', ...'\u2581日本a', '東京', '東京都', '日本', 'a日'];
    const model =
      kind === 'Unigram'
        ? { type: 'Unigram', unk_id: 0, vocab: pieces.map((piece, id) => [piece, id === 0 ? -9 : -1 - id / 10]) }
        : { type: 'BPE', unk_token: '<unk>', ignore_merges: true, vocab: idsOf(pieces), merges: ['日 本', 'a 日'] };
    const json = { ...byteFallback, added_tokens: [added(0, '<unk>')], normalizer: null, post_processor: null, model };
    const { file, keep, json: trimmed } = await trim({ ...json, padding: null }, { listed: [] });
    expect([...keep].map((id) => file.contents[id])).toEqual(['<unk>', ...'\u2581日本a', '東京', '東京都']);
    const [before, after] = [createTokenizer(json, {}), createTokenizer(trimmed, {})];
    for (const text of ['東京', '東京都', '日本', 'a日', '東'])
      expect(after.decode(after.encode(text))).toBe(before.decode(before.encode(text)));
  },
);

it('falls back to bytes where an ASCII character has its own token instead of its byte, as in Gemma 2', async () => {
  const pieces = PIECES.map((piece) => (piece === byteToken(9) ? '\t' : piece));
  const json = { ...byteFallback, model: { ...FALLBACK_MODEL, vocab: idsOf(pieces) } };
  expect(readTokenizerFile(json).kind).toBe('BPE with byte fallback');
  const { json: trimmed, file, keep } = await trim(json, { listed: [] });
  expect([...keep].map((id) => file.contents[id])).toEqual([...pieces.slice(0, 3 + BYTES.length), '\u2581']);
  const [before, after] = [createTokenizer(json, {}), createTokenizer(trimmed, {})];
  for (const text of ['\tif 日本:\n\t\tпривет', ...randomTexts(40)])
    expect(after.decode(after.encode(text))).toBe(before.decode(before.encode(text)));
});

it('renumbers ids in all parts of the file, and keeps the rest', async () => {
  const shifted = {
    ...byteFallback,
    added_tokens: [...(byteFallback.added_tokens as object[]), added(PIECES.length, '<end>')],
    padding: { ...(byteFallback.padding as object), pad_id: PIECES.length },
  };
  const { json, keep } = await trim(shifted, { listed: [] });
  const end = keep.length - 1;
  expect(json.padding).toEqual({ ...(byteFallback.padding as object), pad_id: end });
  expect(json.truncation).toEqual(byteFallback.truncation);
  expect(json.added_tokens).toContainEqual(added(end, '<end>'));
  expect(json.post_processor).toEqual(byteFallback.post_processor);
  const { vocab, ...model } = wordPiece.model as Json & { readonly vocab: Record<string, number> };
  const contents = [...Object.keys(vocab).filter((content) => content !== '[SEP]'), '[SEP]'];
  const sep = contents.length - 1;
  const words = {
    ...wordPiece,
    added_tokens: [added(0, '[UNK]'), added(1, '[CLS]'), added(sep, '[SEP]')],
    post_processor: { type: 'BertProcessing', sep: ['[SEP]', sep], cls: ['[CLS]', 1] },
    model: { ...model, vocab: idsOf(contents) },
  };
  const trimmed = await trim(words, { listed: [4] });
  const processor = { type: 'BertProcessing', sep: ['[SEP]', trimmed.keep.length - 1], cls: ['[CLS]', 1] };
  expect(trimmed.json.post_processor).toEqual(processor);
  expect(formatMerges(json)).toBe('#version: 0.2\n');
});

it('keeps the unknown and the padding token, and those around a text, though they are not added tokens', async () => {
  const pieces = PIECES.filter((piece) => piece !== '<unk>');
  const [start, padding, unknown] = [pieces.indexOf('привет'), pieces.indexOf('hello'), pieces.length];
  const around = { ...byteFallback, added_tokens: [], padding: { pad_id: padding }, post_processor: null };
  const vocab = [...pieces, '<unk>'].map((piece, at) => [piece, -1 - at / 1000]);
  const words = {
    ...{
      ...around,
      post_processor: { type: 'BertProcessing', sep: ['ß', pieces.indexOf('ß')], cls: ['привет', start] },
    },
    model: { type: 'Unigram', unk_id: unknown, byte_fallback: true, vocab },
  };
  const { json, ids, keep } = await trim(words, { listed: [] });
  expect([start, padding, unknown, pieces.indexOf('ß')].filter((id) => !keep.includes(id))).toEqual([]);
  expect(json.padding).toEqual({ pad_id: ids.newId(padding) });
  expect((json.model as Json).unk_id).toBe(keep.length - 1);
  expect(json.post_processor).toMatchObject({ cls: ['привет', ids.newId(start)] });
  const named = { ...around, model: { ...(byteFallback.model as Json), unk_token: 'hello', vocab: idsOf(pieces) } };
  expect((await trim({ ...named, padding: null }, { listed: [] })).keep).toContain(pieces.indexOf('hello'));
});

it('keeps a row without a token that the file pads with', async () => {
  const row = PIECES.length + 2;
  const { json, keep } = await trim({ ...byteFallback, padding: { pad_id: row, pad_token: '<pad>' } }, { listed: [] });
  expect(keep.at(-1)).toBe(row);
  expect(json.padding).toEqual({ pad_id: keep.length - 1, pad_token: '<pad>' });
  expect(idsNamedByTokenizer(readTokenizerFile({ ...unigram, padding: { pad_id: -1 } }))).toEqual([1, 0]);
});

it('keeps the least likely piece of Unigram, from which the score of unknown characters follows', async () => {
  const model = unigram.model as Json & { readonly vocab: readonly [string, number][] };
  const vocab = model.vocab.map(([piece, score]) => [piece, piece === 'привет' ? -20 : score]);
  const { keep } = await trim({ ...unigram, model: { ...model, vocab } }, { listed: [] });
  expect(keep).toContain(PIECES.indexOf('привет'));
  expect(keep).not.toContain(PIECES.indexOf('hello'));
});

it('writes vocab.txt in the order of ids, also of tokens that are digits', async () => {
  const { file, ids, json, keep } = await trim(wordPiece, { listed: [3] });
  const rule = vocabularyFileOf('vocab.txt', file);
  const lines = rule?.kind === 'text' ? rule.rewrite({ ids, file, trimmed: json }).split('\n') : [];
  expect(lines).toEqual([...Array.from(keep, (id) => file.contents[id]), '']);
});

it('keeps whole words without merges if the tokenizer has ignore_merges', async () => {
  const model = { ...(byteFallback.model as Json), ignore_merges: true };
  const { modelIds } = readTokenizerFile(byteFallback);
  const [word, merged] = [modelIds.get('привет')!, modelIds.get('hello')!];
  const json = { ...byteFallback, model, normalizer: null };
  const { counts, json: trimmed } = await trim(json, { listed: [word, merged] });
  expect(counts.parts).toBe(7);
  const after = createTokenizer(trimmed, {});
  expect(after.encode('привет')).toHaveLength(1);
  expect(after.encode('hello')).toHaveLength(1);
  expect(after.decode(after.encode('привет, hello'))).toBe('привет, hello');
});

it('chooses tokens by language, by rank, and by their counts in a text', async () => {
  const { file, keep } = await trim(byteLevel, { languages: ['en'] });
  const removed = file.contents.filter((_, id) => !keep.includes(id));
  const tokenizer = createTokenizer(byteLevel, {});
  const readable = removed.map((token) => tokenizer.decode([file.modelIds.get(token!)!]));
  expect(readable.filter((text) => /^[\x20-\x7e]*$/.test(text))).toEqual([]);
  expect(readable.some((text) => /ü|ö|ä/.test(text))).toBe(true);
  const { keep: german } = await trim(byteLevel, { languages: ['en', 'de'] });
  expect(german.length).toBeGreaterThan(keep.length);
  const { keep: small } = await trim(byteLevel, { size: 700 });
  expect(small).toEqual(Int32Array.from({ length: 700 }, (_, id) => id));
  const textCounts = new Map([[2000, 5]]);
  const { keep: withText, counts } = await trim(byteLevel, { size: 700, textCounts });
  expect(withText).toContain(2000);
  expect(withText).toHaveLength(700);
  expect(counts.text).toBe(1);
});

it('takes half of the tokens to choose from a text at most, and never more with their parts', async () => {
  const merged = ['hello', 'привет', '\u2581hello', '\u2581world', 'llo', 'orld'].map((word) => PIECES.indexOf(word));
  const textCounts = new Map(merged.map((id, at) => [id, 9 - at]));
  // 260 tokens always remain.
  for (const size of [261, 264, 268, 270, 275]) {
    const { keep, counts } = await trim(byteFallback, { size, textCounts });
    expect(keep.length).toBeLessThanOrEqual(size);
    const own = await trim(byteFallback, { size });
    expect(own.keep.length).toBeLessThanOrEqual(size);
    expect(counts.text).toBeLessThanOrEqual((size - 260) / 2);
  }
  const textOnly = new Map(Array.from({ length: 100 }, (_, at) => [1500 + at, 1]));
  const { counts, keep } = await trim(byteLevel, { size: 267, textCounts: textOnly });
  expect(counts).toMatchObject({ always: 257, chosen: 5 });
  expect(keep).toHaveLength(267);
});

it('adds tokens up to a multiple of rows for kernels of codes', async () => {
  const head = { rows: 2048, multiple: 4 };
  const { keep, filledUp } = await trim(byteLevel, { size: 701, head });
  expect([keep.length, filledUp]).toEqual([704, 3]);
  // The head has no row for the last tokens.
  const { keep: short } = await trim(byteLevel, { listed: [300, 301, 302, 2000], head: { rows: 1000, multiple: 4 } });
  expect(short).toContain(2000);
  expect(short.filter((id) => id < 1000).length % 4).toBe(0);
});

it.each<[string, Omit<TokenSelection, 'named'>, RegExp]>([
  ['a size below the bytes', { size: 200 }, /vocabularySize is 200, and 257 tokens always remain/],
  ['an id out of range', { listed: [5000] }, /vocabulary names the id 5000, which no token/],
  ['an unknown language', { languages: ['xx'] }, /keepLanguages contains "xx"; expected languages \(code, en/],
])('refuses %s', async (_, selection, message) => {
  const error = await trim(byteLevel, selection).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(OptionError);
  expect(String(error)).toMatch(message);
});

it('keeps special tokens that a list lacks, and counts the added ones', async () => {
  const { keep, addedToList } = await trim(byteLevel, { listed: [300] });
  expect(keep).toContain(0);
  expect(addedToList).toBe(257);
});

it('keeps a row without a token that the configuration names, also by the list of an earlier result', async () => {
  const file = readTokenizerFile(byteLevel);
  const padding = file.contents.length + 2;
  const named = new Set([padding]);
  const { keep } = await chooseTokens(file, { size: 700, named });
  expect(keep).toContain(padding);
  const again = await chooseTokens(file, { listed: [...keep], named });
  expect([again.keep, again.addedToList]).toEqual([keep, 0]);
});

it('refuses tokenizers that cannot be trimmed', () => {
  const words = { ...wordPiece, model: { ...(wordPiece.model as Json), vocab: idsOf(['[UNK]', 'the', 't', '##h']) } };
  const file = readTokenizerFile(words);
  expect(() => chooseTokens(file, { languages: ['en'], named: new Set() })).rejects.toThrow(UnsupportedModelError);
  expect(() => readTokenizerFile({ model: { type: 'WordLevel', vocab: {} } })).toThrow(/type "WordLevel"/);
  const suffixed = { ...byteLevel, model: { ...(byteLevel.model as Json), end_of_word_suffix: '</w>' } };
  expect(() => readTokenizerFile(suffixed)).toThrow(/end_of_word_suffix "<\/w>"/);
  const broken = { ...byteFallback, model: { ...(byteFallback.model as Json), merges: ['h x'] } };
  expect(() => readTokenizerFile(broken)).toThrow(ModelFormatError);
});

it('refuses a tokenizer of another model, and accepts rows of padding', () => {
  const file = readTokenizerFile(byteLevel);
  expect(() => checkTokenizerFits(file, 2048)).not.toThrow();
  expect(() => checkTokenizerFits(file, 2112)).not.toThrow();
  expect(() => checkTokenizerFits(file, 2000)).toThrow(/the id 2047, and the model 2000 rows/);
  expect(() => checkTokenizerFits(file, 4096)).toThrow(ModelFormatError);
});
