import { readFileSync } from 'node:fs';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { ModelFormatError } from '../../src/errors.js';

const read = (name: string) => JSON.parse(readFileSync(`examples/models/tiny-llama/${name}`, 'utf8')) as unknown;
const json = read('tokenizer.json');
const config = read('tokenizer_config.json');

describe('createTokenizer', () => {
  const tokenizer = createTokenizer(json, config);

  it('knows its vocabulary and special tokens', () => {
    expect(tokenizer.vocabularySize).toBe(2048);
    expect(tokenizer.bosTokenId).toBe(0);
    expect(tokenizer.eosTokenId).toBe(0);
  });

  it('gives back the text it encoded', () => {
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

  it('takes special tokens written in the text as such, and leaves them out on request', () => {
    const tokens = tokenizer.encode('<|endoftext|>Hello');
    expect(tokens[0]).toBe(0);
    expect(tokenizer.decode(tokens, { skipSpecialTokens: true })).toBe('Hello');
  });

  it('has nothing for nothing', () => {
    expect(tokenizer.encode('')).toHaveLength(0);
    expect(tokenizer.decode([])).toBe('');
  });

  it.each([
    [null, {}],
    [{}, {}],
    [[], {}],
    [{ model: {} }, {}],
    [json, null],
  ])('refuses what is no tokenizer (%#)', (a, b) => {
    expect(() => createTokenizer(a, b)).toThrow(ModelFormatError);
  });

  it('reads special tokens given as objects, and does without any', () => {
    expect(createTokenizer(json, { eos_token: { content: '<|endoftext|>' } }).eosTokenId).toBe(0);
    expect(createTokenizer(json, {}).bosTokenId).toBeUndefined();
  });
});
