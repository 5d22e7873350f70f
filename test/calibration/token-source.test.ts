import { type ReadTokensOptions, readTokens, type TokenSource } from '../../src/calibration/token-source.js';
import type { Tokenizer } from '../../src/calibration/tokenizer.js';
import { OptionError } from '../../src/errors.js';

/** One token a character. */
const tokenizer: Tokenizer = {
  vocabularySize: 128,
  bosTokenId: 1,
  eosTokenId: 2,
  encode: (text) => Int32Array.from(text, (letter) => letter.charCodeAt(0)),
  decode: (tokens) => String.fromCharCode(...Array.from(tokens)),
};

async function collect(source: TokenSource, options: ReadTokensOptions = { tokenizer }): Promise<number[][]> {
  const documents: number[][] = [];
  for await (const { tokens } of readTokens(source, options)) documents.push([...tokens]);
  return documents;
}

async function* later<T>(items: readonly T[]): AsyncGenerator<T> {
  for (const item of items) yield await Promise.resolve(item);
}

describe('readTokens', () => {
  it('reads one text, several, and an async iterable of texts', async () => {
    expect(await collect({ text: 'ab' })).toEqual([[97, 98]]);
    expect(await collect({ text: ['a', '', 'b'] })).toEqual([[97], [], [98]]);
    expect(await collect({ text: later(['a', 'b']) })).toEqual([[97], [98]]);
  });

  it('reads one list of ids, several, and an async iterable of lists', async () => {
    expect(await collect({ tokens: [1, 2] }, {})).toEqual([[1, 2]]);
    expect(await collect({ tokens: Int32Array.of(1, 2) }, {})).toEqual([[1, 2]]);
    expect(await collect({ tokens: [[1, 2], Int32Array.of(3)] }, {})).toEqual([[1, 2], [3]]);
    expect(await collect({ tokens: later([[1], [2]]) }, {})).toEqual([[1], [2]]);
  });

  it('reads JSONL of text and of ids, and skips blank lines', async () => {
    expect(await collect({ jsonl: ['{"text":"a"}', '', '{"input_ids":[5,6]}\r'] })).toEqual([[97], [5, 6]]);
  });

  it.each<[string, TokenSource, RegExp]>([
    ['an id beyond the vocabulary', { tokens: [[1], [2, 128]] }, /document 1 has token id 128 at position 1.*0 to 127/],
    ['a negative id', { tokens: [[-1]] }, /document 0 has token id -1 at position 0/],
    ['a fraction', { tokens: [[1, 1.5]] }, /token id 1.5 at position 1/],
    ['NaN', { tokens: [[Number.NaN]] }, /token id NaN at position 0/],
    [
      'an id from JSONL',
      { jsonl: ['{"input_ids":[1]}', '{"input_ids":[1, 999]}'] },
      /line 2 has token id 999 at position 1/,
    ],
    ['malformed JSON', { jsonl: ['{"text":"a"}', '{"text":'] }, /line 2 is not JSON/],
    ['JSON that is no object', { jsonl: ['[1]'] }, /line 1 is a list/],
    ['a text that is a number', { jsonl: ['{"text":5}'] }, /line 1 has "text" of type number; expected \{"text"/],
    ['ids that are no list', { jsonl: ['{"input_ids":null}'] }, /line 1 has "input_ids" null; expected \{"text"/],
    ['an object without text', { jsonl: ['{"body":"a"}'] }, /line 1 has body; expected \{"text"/],
    ['a number in a list of texts', { text: [5 as unknown as string] }, /document 0 is of type number/],
    ['a value that cannot be iterated', { text: 5 as unknown as string }, /"text" is of type number/],
    ['no known field', {} as TokenSource, /"text", "tokens" or "jsonl"/],
  ])('refuses %s', async (_, source, message) => {
    await expect(collect(source)).rejects.toThrow(OptionError);
    await expect(collect(source)).rejects.toThrow(message);
  });

  it('throws if the source is text and there is no tokenizer', async () => {
    await expect(collect({ text: 'a' }, {})).rejects.toThrow(/no tokenizer/);
  });
});
