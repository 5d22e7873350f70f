import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import { cutWindows } from '../../src/calibration/cut-windows.js';
import { startOfDocuments } from '../../src/calibration/generated-set.js';
import { findLeadingTokens, withoutSpecialTokens } from '../../src/calibration/leading-tokens.js';
import { findStartToken } from '../../src/calibration/start-token.js';
import { createTokenizer, type Tokenizer } from '../../src/calibration/tokenizer.js';
import { encodeText } from '../../src/evaluation/encode-item.js';
import { generateCalibration } from '../../src/evaluation/generate-calibration.js';
import { createFakeModel } from '../evaluation/fake-model.js';

/** Letters a to z are tokens 3 to 28; 0 is BOS, 1 another token that begins texts, 2 EOS. */
const WORDS = {
  version: '1.0',
  model: {
    type: 'BPE',
    vocab: {
      '<s>': 0,
      '<p>': 1,
      '</s>': 2,
      ...Object.fromEntries(Array.from('abcdefghijklmnopqrstuvwxyz', (letter, at) => [letter, at + 3])),
    },
    merges: [],
  },
  added_tokens: ['<s>', '<p>', '</s>'].map((content, id) => ({ id, content, special: true })),
  decoder: null,
  normalizer: null,
  pre_tokenizer: null,
};

/** A post-processor that puts tokens around a text. */
const around = (before: readonly string[], after: readonly string[] = []) => {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const single = [...before.map(special), { Sequence: { id: 'A', type_id: 0 } }, ...after.map(special)];
  const ids = Object.fromEntries(['<s>', '<p>', '</s>'].map((id, at) => [id, { id, ids: [at], tokens: [id] }]));
  return { type: 'TemplateProcessing', single, pair: single, special_tokens: ids };
};

const CONFIG = { bos_token: '<s>', eos_token: '</s>' };
const tokenizerWith = (processor: object | null, config: object = {}): Tokenizer =>
  createTokenizer({ ...WORDS, post_processor: processor }, { ...CONFIG, ...config });

describe('findLeadingTokens', () => {
  it.each<[string, object | null, readonly number[]]>([
    ['none', null, []],
    ['BOS', around(['<s>']), [0]],
    ['two', around(['<p>', '<s>']), [1, 0]],
    ['BOS before, EOS after', around(['<s>'], ['</s>']), [0]],
    ['only EOS after', around([], ['</s>']), []],
  ])('finds the tokens that a post-processor puts before a text: %s', (_, processor, expected) => {
    const tokenizer = tokenizerWith(processor);
    expect(findLeadingTokens(tokenizer)).toEqual(expected);
    expect(findLeadingTokens(withoutSpecialTokens(tokenizer))).toEqual([]);
  });

  // Checked with transformers 4.57.6: LlamaTokenizer and similar ones add BOS if the configuration says so.
  it.each([
    ['LlamaTokenizerFast', true, [0]],
    ['GemmaTokenizer', true, [0]],
    ['GPTNeoXTokenizer', true, [0]],
    ['LlamaTokenizer', false, []],
    ['PreTrainedTokenizerFast', true, []],
    ['GPT2Tokenizer', true, []],
  ])('applies add_bos_token where transformers does: %s, %p', (tokenizer_class, add_bos_token, expected) => {
    expect(findLeadingTokens(tokenizerWith(null, { tokenizer_class, add_bos_token }))).toEqual(expected);
    // Only one BOS if the post-processor adds it too.
    const both = tokenizerWith(around(['<s>']), { tokenizer_class, add_bos_token });
    expect([...both.encode('a', { addSpecialTokens: true })]).toEqual([0, 3]);
  });
});

describe('windows of a tokenizer with BOS', () => {
  const tokenizer = tokenizerWith(around(['<s>']));
  const shape = { windowCount: 3, windowLength: 4 };
  const windowsOf = ({ windows }: { readonly windows: readonly Int32Array[] }) => windows.map((window) => [...window]);

  it('starts every window and document of a text with BOS, and records it', async () => {
    const set = await createCalibrationSet({ ...shape, source: { text: ['abcd', 'efghij'] }, tokenizer });
    expect(windowsOf(set)).toEqual([
      [0, 3, 4, 5],
      [0, 6, 0, 7],
      [0, 8, 9, 10],
    ]);
    expect(set.provenance).toMatchObject({ leadingTokens: [0], documentCount: 2 });
  });

  it('does not change windows that begin with BOS', async () => {
    const tokens = [
      [0, 3, 4, 5],
      [0, 6, 7, 8],
    ];
    const set = await createCalibrationSet({ ...shape, source: { tokens }, tokenizer });
    expect(windowsOf(set)).toEqual(tokens);
    const written = await createCalibrationSet({ ...shape, source: { text: '<s>abc' }, tokenizer });
    expect(windowsOf(written)).toEqual([[0, 3, 4, 5]]);
  });

  it('adds no BOS without special tokens, or if leadingTokens is empty', async () => {
    const source = { text: 'abcdefgh' };
    const plain = [
      [3, 4, 5, 6],
      [7, 8, 9, 10],
    ];
    const bare = await createCalibrationSet({ ...shape, source, tokenizer: withoutSpecialTokens(tokenizer) });
    expect(windowsOf(bare)).toEqual(plain);
    expect(bare.provenance).not.toHaveProperty('leadingTokens');
    expect(windowsOf(await createCalibrationSet({ ...shape, source, tokenizer, leadingTokens: [] }))).toEqual(plain);
  });

  it('refuses a token outside the vocabulary, and windows of leading tokens only', async () => {
    const source = { text: 'abcdefgh' };
    const outside = createCalibrationSet({ ...shape, source, tokenizer, leadingTokens: [40], vocabularySize: 29 });
    await expect(outside).rejects.toThrow(/the tokens that the tokenizer puts before a text has token id 40/);
    expect(() => cutWindows(new Int32Array(9), { ...shape, windowLength: 2, leadingTokens: [0, 1] })).toThrow(
      /windowLength is 2, and 2 tokens begin every window/,
    );
  });
});

describe('generated documents', () => {
  it('begin with the tokens that the tokenizer puts before a text', async () => {
    const tokenizer = tokenizerWith(around(['<p>', '<s>']));
    const startToken = findStartToken({ configs: [{ bos_token_id: 5 }], tokenizer })!;
    expect(startToken).toBe(0);
    expect(startOfDocuments({ leadingTokens: [1, 0], startToken })).toEqual([1, 0]);
    expect(startOfDocuments({ leadingTokens: [1, 0], startToken: 7 })).toEqual([1, 0, 7]);
    const { model } = createFakeModel(29, () => Array.from({ length: 29 }, (_, token) => (token === 9 ? 50 : 0)));
    const options = { windowCount: 2, windowLength: 8, documentLength: 4, startToken, leadingTokens: [1, 0] };
    const { windows, provenance } = await generateCalibration(model, options);
    for (const window of windows) expect([...window]).toEqual([1, 0, 9, 9, 1, 0, 9, 9]);
    expect(provenance).toMatchObject({ leadingTokens: [1, 0], generated: { startToken: 0 } });
  });
});

describe('contexts that are too long', () => {
  const tokenizer = tokenizerWith(around(['<s>']));
  const encode = (contextLength: number) =>
    encodeText({ context: 'abcdef', continuation: 'gh' }, 'item 0', { tokenizer, contextLength });

  it.each([
    [20, [0, 3, 4, 5, 6, 7, 8, 9, 10], 7],
    [5, [0, 6, 7, 8, 9, 10], 4],
    [3, [0, 8, 9, 10], 2],
    [2, [8, 9, 10], 1],
  ])('are cut to %i tokens, with BOS if it fits', (contextLength, expected, firstScored) => {
    const { tokens, ...found } = encode(contextLength);
    expect([...tokens]).toEqual(expected);
    expect(found.firstScored).toBe(firstScored);
  });
});
