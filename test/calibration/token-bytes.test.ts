import { tokenBytesOf } from '../../src/calibration/token-bytes.js';

const bytesOf = (text: string) => [...new TextEncoder().encode(text)];

it.each<[string, object, string, readonly number[]]>([
  ['a byte-level token', { pre_tokenizer: { type: 'ByteLevel' } }, 'Ġé', [0x20, 0xe9]],
  ['a byte-level token with other characters', { pre_tokenizer: { type: 'ByteLevel' } }, '日', bytesOf('日')],
  ['a byte of the fallback', { model: { type: 'BPE', byte_fallback: true } }, '<0x0A>', [0x0a]],
  ['text like a byte', { model: { type: 'BPE' } }, '<0x0A>', bytesOf('<0x0A>')],
  ['a mark for a space', { model: { type: 'Unigram' } }, '\u2581a\u2581', bytesOf(' a ')],
  ['a mark of Metaspace', { model: {}, decoder: { type: 'Metaspace', replacement: 'Ġ' } }, 'Ġaé', bytesOf(' aé')],
  [
    'a mark that a sequence replaces',
    { model: {}, decoder: { decoders: [{ type: 'Replace', pattern: { String: '·' }, content: ' ' }] } },
    'a·',
    bytesOf('a '),
  ],
  ['a continuing subword', { model: { type: 'WordPiece' } }, '##ing', bytesOf('ing')],
  ['another prefix', { model: { type: 'WordPiece', continuing_subword_prefix: '@' } }, '@ing', bytesOf('ing')],
  ['marks that are no prefix', { model: { type: 'BPE' } }, '##ing', bytesOf('##ing')],
])('gives the bytes of %s', (_, tokenizer, content, expected) => {
  expect([...tokenBytesOf(tokenizer as Readonly<Record<string, unknown>>)(content)]).toEqual(expected);
});
