import { renumberIds } from '../../src/vocabulary/renumbered-ids.js';
import { textsOfTemplate } from '../../src/vocabulary/template-texts.js';
import { idsNamedByDocument, renumberDocument } from '../../src/vocabulary/token-ids-in-documents.js';

/** Id 5 is removed. */
const ids = renumberIds(Int32Array.of(0, 1, 2, 3, 4, 6, 7, 8, 9));

const document = {
  vocab_size: 12,
  bos_token_id: 1,
  eos_token_id: [7, 8],
  pad_token_id: -1,
  image_token_index: 100,
  text_config: { vocab_size: 10, pad_token_id: 6, vocab_size_per_layer_input: 6 },
  audio_config: { vocab_size: 8, pad_token_id: 5 },
  suppress_tokens: [5, 6],
  begin_suppress_tokens: [5],
  forced_decoder_ids: [
    [1, 7],
    [2, null],
  ],
  bad_words_ids: [[5], [5, 6]],
  sequence_bias: [
    [[6, 7], -2],
    [[5], 1],
  ],
  model: { vocab_size: 10, eos_token_id: 9, pad_id: 8, decoder: { num_hidden_layers: 7 } },
  added_tokens_decoder: { '7': { content: '<end>' } },
  max_length: 7,
};

it('renumbers the ids of configuration files, and nothing else', () => {
  expect(renumberDocument(document, ids)).toEqual({
    vocab_size: 9,
    bos_token_id: 1,
    eos_token_id: [6, 7],
    pad_token_id: -1,
    image_token_index: 100,
    text_config: { vocab_size: 9, pad_token_id: 5, vocab_size_per_layer_input: 5 },
    audio_config: { vocab_size: 8, pad_token_id: 5 },
    suppress_tokens: [5],
    begin_suppress_tokens: [],
    forced_decoder_ids: [
      [1, 6],
      [2, null],
    ],
    sequence_bias: [[[5, 6], -2]],
    model: { vocab_size: 9, eos_token_id: 8, pad_id: 7, decoder: { num_hidden_layers: 7 } },
    added_tokens_decoder: { '6': { content: '<end>' } },
    max_length: 7,
  });
});

it('lists the ids that a configuration names', () => {
  expect(new Set(idsNamedByDocument(document))).toEqual(new Set([1, 7, 8, 100, 6, 9]));
});

it('lists ids under each name of a special token', () => {
  for (const name of ['bos', 'eos', 'pad', 'unk', 'sep', 'cls', 'mask'])
    for (const key of [`${name}_id`, `${name}_token_id`]) expect(idsNamedByDocument({ [key]: 4 })).toEqual([4]);
  expect(idsNamedByDocument({ model_id: 4, id: 4, max_length: 4 })).toEqual([]);
});

it('finds the texts of a chat template', () => {
  const template = `{%- for m in messages -%}{{ '<|im_start|>' + m['role'] + "\\n" }}{# note #}text {{ m.content }}<end>{% endfor %}`;
  expect(textsOfTemplate(template)).toEqual(['<|im_start|>', 'role', '\n', 'text ', '<end>']);
});
