import { readFileSync } from 'node:fs';
import { createTokenizer, type LimitTime } from '../../src/calibration/tokenizer.js';
import { ModelFormatError } from '../../src/errors.js';
import { createTimeLimit } from '../../src/node/limit-time.js';

const read = (name: string) => JSON.parse(readFileSync(`examples/models/tiny-llama/${name}`, 'utf8')) as unknown;
const json = read('tokenizer.json');
const config = read('tokenizer_config.json');

const PLAIN = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };

const splitBy = (pattern: object, behavior: string, invert = false) => ({ type: 'Split', pattern, behavior, invert });

function errorOf(action: () => unknown): Error | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

describe('createTokenizer', () => {
  const tokenizer = createTokenizer(json, config);

  it('reads the vocabulary size and special tokens', () => {
    expect(tokenizer.vocabularySize).toBe(2048);
    expect(tokenizer.bosTokenId).toBe(0);
    expect(tokenizer.eosTokenId).toBe(0);
  });

  it('decodes the tokens of a text to the same text', () => {
    const text = 'Größe: 12 - 5 = 7\n\n\tif (x) { return "né"; } 日本';
    const tokens = tokenizer.encode(text);
    expect(tokens).toBeInstanceOf(Int32Array);
    expect(tokenizer.decode(tokens)).toBe(text);
  });

  it('splits off every numeric character, as the tokenizers library does', () => {
    // Ids that tokenizers 0.23 (Python) gives for the same tokenizer.json.
    const ids = [82, 926, 454, 221, 127, 123, 303, 332, 263, 12, 221, 17, 18, 127, 122, 536, 1103, 127, 111, 324, 221];
    const text = 'roughly ¾ inches, 12½ or x² and Ⅳ, ٣٤ 12';
    const rest = [159, 228, 97, 12, 221, 150, 97, 150, 98, 221, 17, 18];
    expect(Array.from(tokenizer.encode(text))).toEqual([...ids, ...rest]);
  });

  // Pieces that tokenizers 0.23 (Python) gives for the same pre-tokenizer.
  it.each([
    [{ type: 'Whitespace' }, 'naïve ½a², ну...b', ['naïve', '½', 'a', '²,', 'ну', '...', 'b']],
    [{ type: 'Punctuation', behavior: 'Isolated' }, 'a--b$.', ['a', '-', '-', 'b', '$', '.']],
    [{ type: 'Punctuation', behavior: 'Contiguous' }, 'a--b$.', ['a', '--', 'b', '$.']],
    [{ type: 'Punctuation', behavior: 'MergedWithPrevious' }, '-a--b', ['-', 'a-', '-', 'b']],
    [{ type: 'CharDelimiterSplit', delimiter: '.' }, 'a..b.', ['a', 'b']],
    [splitBy({ String: '.' }, 'Removed'), 'a..b.', ['a', 'b']],
    [splitBy({ String: '.' }, 'Contiguous'), 'a..b.', ['a', '..', 'b', '.']],
    [splitBy({ Regex: 'x|yz' }, 'MergedWithPrevious'), 'xayzxb', ['x', 'ayz', 'x', 'b']],
    [splitBy({ Regex: 'x|yz' }, 'MergedWithNext'), 'xayzxb', ['xa', 'yz', 'xb']],
    [splitBy({ Regex: 'x|yz' }, 'Isolated', true), 'xayzxb', ['x', 'a', 'yz', 'x', 'b']],
    [splitBy({ Regex: 'x|yz' }, 'Removed', true), 'xayzxb', ['x', 'yz', 'x']],
    [splitBy({ Regex: 'x|yz' }, 'Contiguous', true), 'xayzxb', ['x', 'a', 'yzx', 'b']],
    [splitBy({ Regex: 'x|yz' }, 'MergedWithPrevious', true), 'xayzxb', ['xa', 'yz', 'xb']],
    [splitBy({ Regex: 'x|yz' }, 'MergedWithNext', true), 'xayzxb', ['x', 'ayz', 'x', 'b']],
  ])('splits by %j as the tokenizers library does', (split, text, pieces) => {
    const vocab = Object.fromEntries(['<unk>', ...new Set(['--', '$.', ...pieces])].map((piece, id) => [piece, id]));
    const model = { type: 'BPE', unk_token: '<unk>', ignore_merges: true, merges: [], vocab };
    const made = createTokenizer({ ...PLAIN, model, pre_tokenizer: split }, {});
    expect(Array.from(made.encode(text))).toEqual(pieces.map((piece) => vocab[piece]));
  });

  it('encodes characters without a piece as bytes in Unigram too, and unknown ones word by word', () => {
    const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
    const pieces = ['<unk>', 'a', ...bytes];
    const model = { type: 'Unigram', unk_id: 0, byte_fallback: true, vocab: pieces.map((piece) => [piece, -1]) };
    const made = createTokenizer({ ...PLAIN, model }, {});
    expect(Array.from(made.encode('aéb'), (id) => pieces[id])).toEqual(['a', '<0xC3>', '<0xA9>', '<0x62>']);
    const vocabOf = (list: readonly string[]) => list.map((piece) => [piece, -1]);
    const fewer = pieces.filter((piece) => piece !== '<0xA9>');
    const incomplete = createTokenizer({ ...PLAIN, model: { ...model, vocab: vocabOf(fewer) } }, {});
    expect(Array.from(incomplete.encode('aéb'), (id) => fewer[id])).toEqual(['a', '<unk>']);
    const pre_tokenizer = { type: 'WhitespaceSplit' };
    const without = createTokenizer({ ...PLAIN, pre_tokenizer, model: { ...model, byte_fallback: false } }, {});
    expect(Array.from(without.encode('aéb éb b'))).toEqual([1, 0, 0, 0]);
    const vocab = { '<unk>': 0, a: 1 };
    const bpe = { type: 'BPE', unk_token: '<unk>', fuse_unk: true, merges: [], vocab };
    expect(Array.from(createTokenizer({ ...PLAIN, pre_tokenizer, model: bpe }, {}).encode('aéb éb b'))).toEqual([
      1, 0, 0, 0,
    ]);
  });

  it('encodes special tokens in a text, and skips them on request when decoding', () => {
    const tokens = tokenizer.encode('<|endoftext|>Hello');
    expect(tokens[0]).toBe(0);
    expect(tokenizer.decode(tokens, { skipSpecialTokens: true })).toBe('Hello');
  });

  it.each([-1, 2 ** 31, 1e300, 'x'])('refuses %p as the id of a token', (id) => {
    const { model, ...rest } = json as { readonly model: { readonly vocab: Readonly<Record<string, number>> } };
    const hostile = { ...rest, model: { ...model, vocab: { ...model.vocab, e: id } } };
    expect(() => createTokenizer(hostile, config)).toThrow(/the token "e" the id/);
    const added = { ...rest, model, added_tokens: [{ content: 'e', id }] };
    expect(() => createTokenizer(added, config)).toThrow(/the token "e" the id/);
  });

  it('counts bytes of tokens if ids have a gap', () => {
    const { model, ...rest } = json as { readonly model: { readonly vocab: Readonly<Record<string, number>> } };
    const { e: gap, ...vocab } = model.vocab;
    expect(gap).toBeDefined();
    const gapped = createTokenizer({ ...rest, model: { ...model, vocab } }, config);
    expect(gapped.countBytes!([gap!, vocab.a!])).toBe(1);
  });

  it('refuses an added token without content', () => {
    const added = { ...(json as object), added_tokens: [{ id: 1, special: true }] };
    expect(() => createTokenizer(added, config)).toThrow(/the added token 1 no text as its content/);
  });

  it('encodes and decodes empty input', () => {
    expect(tokenizer.encode('')).toHaveLength(0);
    expect(tokenizer.decode([])).toBe('');
  });

  it.each([
    [null, {}],
    [{}, {}],
    [[], {}],
    [{ model: {} }, {}],
    [json, null],
  ])('refuses invalid tokenizers (%#)', (a, b) => {
    expect(() => createTokenizer(a, b)).toThrow(ModelFormatError);
  });

  it('reads special tokens given as objects, and accepts a config without any', () => {
    expect(createTokenizer(json, { eos_token: { content: '<|endoftext|>' } }).eosTokenId).toBe(0);
    expect(createTokenizer(json, {}).bosTokenId).toBeUndefined();
  });

  it('refuses a normalizer or pre-tokenizer that makes texts far longer', () => {
    const twice = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
    const normalizer = { type: 'Sequence', normalizers: Array.from({ length: 16 }, () => twice) };
    const growing = createTokenizer({ ...(json as object), normalizer }, config);
    expect(() => growing.encode('a cat sat')).toThrow(ModelFormatError);
    expect(() => growing.encode('a cat sat')).toThrow(
      /its normalizer turns 9 characters into \d+\. Get the file again/,
    );
    const pretokenizer = { type: 'Replace', pattern: { String: 'a' }, content: 'a'.repeat(2000) };
    const splitting = createTokenizer({ ...(json as object), pre_tokenizer: pretokenizer }, config);
    expect(() => splitting.encode('a cat sat')).toThrow(/its pre_tokenizer turns 9 characters into 6006/);
  });

  describe('under a time limit', () => {
    const limitTime = createTimeLimit();
    const hurried: LimitTime = (action, ms) => limitTime(action, ms / 100);
    const split = { type: 'Split', pattern: { Regex: '(?:\\w+)+c' }, behavior: 'Isolated', invert: false };
    const replace = { type: 'Replace', pattern: { Regex: '(a|a)+$' }, content: '' };

    it('stops a pattern with catastrophic backtracking', () => {
      const text = `${'a'.repeat(50)}!`;
      for (const part of [{ pre_tokenizer: split }, { normalizer: replace }]) {
        const hostile = createTokenizer({ ...(json as object), ...part }, config, hurried);
        const error = errorOf(() => hostile.encode(text));
        expect(error).toBeInstanceOf(ModelFormatError);
        expect(error?.message).toMatch(/^tokenizer.json cannot be used: it took more than 1 s and was stopped\. Get/);
      }
    });

    it('shares one time budget between all texts, which grows with their length', () => {
      const budgets: number[] = [];
      const counting = createTokenizer(json, config, (action, ms) => {
        budgets.push(ms);
        return { value: action(0), ms: 500 };
      });
      counting.encode('x'.repeat(100_000));
      expect(budgets).toEqual([30_000, 39_500]);
    });

    it('creates the tokenizer again after an interrupted attempt', () => {
      const interrupted = createTokenizer(json, config, (action) => {
        action(0);
        return { value: action(1), ms: 0 };
      });
      expect(interrupted.decode(interrupted.encode('Hello'))).toBe('Hello');
    });

    it('retries with more time if the thread got little processor time', () => {
      const attempts: number[] = [];
      const spin = (attempt: number) => {
        attempts.push(attempt);
        while (attempt < 2);
        return 'done';
      };
      let now = 0;
      const starved = createTimeLimit(() => now++);
      expect(starved(spin, 100)).toEqual({ value: 'done', ms: 1 });
      expect(attempts).toEqual([0, 1, 2]);
      const busy = createTimeLimit(() => (now += 50));
      expect(() => busy(spin, 100)).toThrow('it took more than 1 s and was stopped');
      expect(attempts).toEqual([0, 1, 2, 0]);
    });

    it('does not count time in which the thread waits', () => {
      const waiting = new Int32Array(new SharedArrayBuffer(4));
      const { value, ms } = limitTime((attempt) => {
        // Like a process that was stopped, or that got no processor time.
        if (attempt === 0) Atomics.wait(waiting, 0, 0, 400);
        return attempt;
      }, 200);
      expect(value).toBe(1);
      expect(ms).toBeLessThan(100);
    });

    it('returns values, and rethrows errors unchanged', () => {
      expect(limitTime(() => 3, 1000)).toMatchObject({ value: 3 });
      expect(() =>
        limitTime(() => {
          throw new RangeError('mine');
        }, 1000),
      ).toThrow(RangeError);
    });
  });
});
