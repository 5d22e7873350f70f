import { readFileSync } from 'node:fs';
import { encodePieces } from '../../src/calibration/encode-pieces.js';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { concatenate } from '../../src/concatenate.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const readJson = (name: string): unknown => JSON.parse(readFileSync(`${TINY_LLAMA}/${name}`, 'utf8'));
const tokenizer = createTokenizer(readJson('tokenizer.json'), readJson('tokenizer_config.json'));

/** Like SentencePiece's exports: prepends a space to every text, and has no pre-tokenizer that splits at spaces. */
const prepending = createTokenizer(
  {
    added_tokens: [],
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(['▁', 'a', 'b', '▁a', '▁b', 'ab', '▁ab'].map((token, id) => [token, id])),
      merges: ['▁ a', '▁ b', 'a b', '▁ ab'],
    },
  },
  {},
);

it.each(['prose.txt', 'python.txt', 'german.txt', 'arithmetic.txt'])('%s has the same tokens in pieces', (name) => {
  const text = readFileSync(`${TINY_LLAMA}/text/${name}`, 'utf8');
  const parts = [...encodePieces(text, (piece) => tokenizer.encode(piece), { pieceLength: 1024 })];
  expect(parts.length).toBeGreaterThan(text.length / 1024);
  expect(concatenate(Int32Array, parts)).toEqual(tokenizer.encode(text));
});

it('removes the space that the tokenizer adds to each piece after a cut', () => {
  const text = 'ab a b ba ab '.repeat(200);
  const parts = [...encodePieces(text, (piece) => prepending.encode(piece), { pieceLength: 600 })];
  expect(parts.length).toBeGreaterThan(3);
  expect(concatenate(Int32Array, parts)).toEqual(prepending.encode(text));
});

it('cuts a text without spaces, never inside a character', () => {
  const pieces: string[] = [];
  const encode = (piece: string) => {
    pieces.push(piece);
    return [piece.length];
  };
  const parts = [...encodePieces('😀'.repeat(1000), encode, { pieceLength: 99 })];
  expect(concatenate(Int32Array, parts).reduce((sum, length) => sum + length, 0)).toBe(2000);
  expect(pieces.filter((piece) => /^[\udc00-\udfff]|[\ud800-\udbff]$/.test(piece))).toEqual([]);
});

it('encodes only the needed part of a line of 20 MB', () => {
  const tokens = tokenizer.encode('the king '.repeat(20e6 / 9), { enough: 1000 });
  expect(tokens.length).toBeGreaterThanOrEqual(1000);
  expect(tokens.length).toBeLessThan(2 ** 18);
});
