import type { Tokenizer } from '../../src/calibration/tokenizer.js';
import { OptionError } from '../../src/errors.js';
import { encodePair } from '../../src/evaluation/encode-pair.js';
import { tinyLlamaTokenizer } from './tiny-llama.js';

/** One token a character, but `ab` is one token; BOS is 1. */
const tokenizer: Tokenizer = {
  vocabularySize: 300,
  bosTokenId: 1,
  eosTokenId: 2,
  encode: (text, { addSpecialTokens = false } = {}) => {
    const pieces = (text.match(/ab|./gs) ?? []).map((piece) => (piece === 'ab' ? 256 : piece.charCodeAt(0)));
    return Int32Array.from(addSpecialTokens ? [1, ...pieces] : pieces);
  },
  decode: () => '',
};

const encode = (context: string, continuation: string, special = false) => {
  const pair = encodePair(tokenizer, { context, continuation }, special);
  return [[...pair.context], [...pair.continuation]];
};

describe('encodePair', () => {
  it('moves the spaces that end a context to the continuation', () => {
    expect(encode('x \n', 'y')).toEqual([[120], [32, 10, 121]]);
  });

  it('cuts the continuation after as many tokens as the context alone has', () => {
    // "xa" is two tokens, "xabc" three: x, ab, c. What remains after the first two is c.
    expect(encode('xa', 'bc')).toEqual([[120, 97], [99]]);
  });

  it('starts an empty context with BOS', () => {
    expect(encode('', 'y')).toEqual([[1], [121]]);
    expect(encode(' ', 'y')).toEqual([[1], [32, 121]]);
    expect(encode('', 'y', true)).toEqual([[1], [121]]);
  });

  it('adds special tokens on request', () => {
    expect(encode('x', 'y', true)).toEqual([[1, 120], [121]]);
  });

  it('refuses a continuation that merges into its context', () => {
    expect(() => encode('a', 'b')).toThrow(OptionError);
  });

  it('refuses an empty context if the tokenizer has no BOS or EOS', () => {
    const bare = { ...tokenizer, bosTokenId: undefined, eosTokenId: undefined };
    expect(() => encodePair(bare, { context: '', continuation: 'y' }, false)).toThrow(/no BOS or EOS/);
  });

  it('keeps a leading space in the continuation of a real tokenizer', () => {
    const { context, continuation } = encodePair(tinyLlamaTokenizer, { context: '4 + 5 =', continuation: ' 9' });
    expect(tinyLlamaTokenizer.decode(context)).toBe('4 + 5 =');
    expect(tinyLlamaTokenizer.decode(continuation)).toBe(' 9');
  });
});
