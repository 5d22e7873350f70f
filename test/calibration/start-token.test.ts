import { findEndTokens, findStartToken, requireStartToken } from '../../src/calibration/start-token.js';
import type { Tokenizer } from '../../src/calibration/tokenizer.js';
import { OptionError } from '../../src/errors.js';
import { tinyLlamaTokenizer } from '../evaluation/tiny-llama.js';

/** A tokenizer that encodes each known text as one token, and any other text as token 9. */
function tokenizerOf(known: Readonly<Record<string, number>>, ends: Partial<Tokenizer> = {}): Tokenizer {
  const names = new Map(Object.entries(known).map(([name, id]) => [id, name]));
  return {
    vocabularySize: 10,
    bosTokenId: undefined,
    eosTokenId: undefined,
    encode: (text) => Int32Array.of(known[text] ?? 9),
    decode: (ids) => names.get(ids[0] ?? 9) ?? '?',
    ...ends,
  };
}

describe('findStartToken', () => {
  it('prefers <|endoftext|> to the BOS of a chat model', () => {
    const tokenizer = tokenizerOf({ '<|endoftext|>': 4 }, { bosTokenId: 1 });
    expect(findStartToken({ configs: [{ bos_token_id: 1 }], tokenizer })).toBe(4);
    expect(findStartToken({ configs: [], tokenizer: tinyLlamaTokenizer })).toBe(0);
  });

  it('reads BOS, else the first EOS, from the first config that has one', () => {
    expect(findStartToken({ configs: [{}, { bos_token_id: 1 }, { bos_token_id: 2 }] })).toBe(1);
    expect(findStartToken({ configs: [{ eos_token_id: [7, 8] }, { bos_token_id: null }] })).toBe(7);
    expect(findStartToken({ configs: [], tokenizer: tokenizerOf({}, { bosTokenId: 3, eosTokenId: 2 }) })).toBe(3);
    expect(findStartToken({ configs: [{ eos_token_id: 5 }], tokenizer: tokenizerOf({}, { bosTokenId: 3 }) })).toBe(3);
  });

  it('ignores ids outside the vocabulary', () => {
    expect(
      findStartToken({ configs: [{ bos_token_id: -1, eos_token_id: 12 }, { eos_token_id: 2 }], vocabularySize: 10 }),
    ).toBe(2);
  });

  it.each([
    [{ configs: [{ model_type: 'llama' }], tokenizer: tokenizerOf({}) }, /no bos_token_id/],
    [{ configs: [{ bos_token_id: 50256 }], vocabularySize: 10 }, /50256 are outside its vocabulary of 10/],
  ])('names the option to set if there is no start token', (hints, message) => {
    const find = () => requireStartToken(hints);
    expect(findStartToken(hints)).toBeUndefined();
    expect(find).toThrow(OptionError);
    expect(find).toThrow(message);
    expect(find).toThrow(/calibration\.generate\.startToken/);
  });
});

it('finds all tokens that end a text', () => {
  const tokenizer = tokenizerOf({ '<|endoftext|>': 4 }, { eosTokenId: 6 });
  expect(
    findEndTokens({ configs: [{ eos_token_id: [6, 2] }, { eos_token_id: 99 }], tokenizer, vocabularySize: 10 }),
  ).toEqual([2, 4, 6]);
  expect(findEndTokens({ configs: [] })).toEqual([]);
});
