import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Tokenizer } from '../../src/calibration/tokenizer.js';
import { OptionError } from '../../src/errors.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { readTokenSelection, type TokenSelectionOptions } from '../../src/pipeline/read-token-selection.js';
import type { ModelFolder } from '../../src/storage/model-folder.js';
import { readTokenizerFile } from '../../src/vocabulary/tokenizer-file.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const write = (name: string, content: string) => writeFile(join(folder(), name), content);

/** Ids are code points; `<sep>` is 300, and the added token `<end>` 301. */
const file = readTokenizerFile({
  model: {
    type: 'WordPiece',
    unk_token: '?',
    vocab: Object.fromEntries([
      ...Array.from({ length: 127 }, (_, id) => [String.fromCodePoint(id), id]),
      ['<sep>', 300],
    ]),
  },
  added_tokens: [{ id: 301, content: '<end>' }],
});
const tokenizer = {
  encode: (text: string) => Int32Array.from(text, (letter) => letter.codePointAt(0)!),
} as Partial<Tokenizer> as Tokenizer;
const idsOf = (text: string) => [...tokenizer.encode(text)];

function select(options: TokenSelectionOptions, tokenizerConfig = {}, constants: readonly number[] = []) {
  const model = {
    root: folder(),
    modelFile: 'model.onnx',
    platform: nodePlatform,
    documents: { 'generation_config.json': { eos_token_id: 400 } },
  } as unknown as ModelFolder;
  const sources = { folder: model, file, tokenizer, tokenizerConfig, constants };
  return readTokenSelection(nodePlatform.files, options, sources);
}

it('counts the tokens of texts, and those that were read already', async () => {
  await write('a.txt', 'abb');
  await write('b.txt', 'b');
  const { textCounts } = await select({
    texts: [join(folder(), 'a.txt'), join(folder(), 'b.txt')],
    seen: Int32Array.of(98, 99),
  });
  expect([...textCounts!]).toEqual([
    [98, 4],
    [99, 1],
    [97, 1],
  ]);
});

it('names the tokens of all chat templates, of roles, of special tokens and of graphs', async () => {
  await write('chat_template.jinja', 'Y{{ x }}');
  await write('chat_template.json', JSON.stringify({ chat_template: 'Z' }));
  await mkdir(join(folder(), 'additional_chat_templates'));
  await write('additional_chat_templates/tool.jinja', "{{ 'W' }}");
  await write('special_tokens_map.json', JSON.stringify({ sep_token: { content: '<sep>' }, pad_token: 'none' }));
  const { named } = await select({ vocabularySize: 9 }, { chat_template: 'X', eos_token: '!' }, [77]);
  for (const id of [...idsOf('WXYZ!'), ...idsOf('systemuserassistant'), 300, 400, 77]) expect(named).toContain(id);
  expect(named).not.toContain(idsOf('Q')[0]);
});

it.each([
  ['a.txt', 'a\r\n<sep>\r\n\r\n<end>\n', [97, 300, 301]],
  ['a.json', '["a", 5, "<end>"]', [97, 5, 301]],
  ['kept.json', '{"rows": 2, "kept": [3, "b"]}', [3, 98]],
])('reads a list of tokens and ids from %s', async (name, content, expected) => {
  await write(name, content);
  expect((await select({ vocabulary: join(folder(), name) })).listed).toEqual(expected);
});

it.each([
  ['a.txt', '\n', /a\.txt names no token/],
  ['a.json', '[]', /a\.json names no token/],
  ['a.json', '["a"', /a\.json is not JSON/],
  ['a.json', '[["a"]]', /contains neither a list of tokens and ids nor a result with "kept"/],
  ['a.txt', 'a\n97\n', /names "97" \(entry 2\), which is not a token .* ids as numbers in a list in a \.json file/],
])('refuses %s with %j', async (name, content, message) => {
  await write(name, content);
  const selection = select({ vocabulary: join(folder(), name) });
  await expect(selection).rejects.toThrow(OptionError);
  await expect(selection).rejects.toThrow(message);
});
