import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, TensorProtoSchema, ValueInfoProtoSchema } from 'onnx-buf';
import { countPositions } from '../../src/architecture/count-positions.js';
import { evaluateModels, openModelFolder } from '../../src/node.js';
import { makeNode, type NodeSpec } from '../../src/onnx/build.js';
import { floatTensor } from '../onnx/small-model.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const GENAI = 'test/fixtures/exporters/llama-genai018-fp32';

/** A graph with a table of 32 positions, one of 12 and one of 4 rows, and an embedding of 10 tokens. */
const graphOf = (nodes: readonly NodeSpec[]) =>
  create(GraphProtoSchema, {
    input: ['input_ids', 'position_ids', 'x'].map((name) => create(ValueInfoProtoSchema, { name })),
    initializer: Object.entries({ table: 32, angles: 12, types: 4, words: 10 }).map(([name, rows]) =>
      create(TensorProtoSchema, floatTensor(name, [rows, 2], new Float32Array(2 * rows))),
    ),
    node: nodes.map(makeNode),
  });

const look = (table: string, by = 'position_ids'): NodeSpec => ({ op: 'Gather', inputs: [table, by], outputs: ['y'] });
const embed = ['input_ids', '', 'words', 'table', '', 'g', 'b', '', 'position_ids'];

it.each([
  ['a table that positions index', [look('table')], 32],
  ['the smallest of several tables', [look('table'), look('angles')], 12],
  ['a table that is computed from a weight', [{ op: 'Cos', inputs: ['angles'], outputs: ['c'] }, look('c')], 12],
  ['the embedding of tokens', [look('words', 'input_ids')], undefined],
  ['a table of few rows', [look('types')], undefined],
  [
    'a table of ONNX Runtime',
    [{ op: 'EmbedLayerNormalization', domain: 'com.microsoft', inputs: embed, outputs: ['y'] }],
    32,
  ],
  [
    'the angles of a rotary embedding',
    [
      {
        op: 'RotaryEmbedding',
        domain: 'com.microsoft',
        inputs: ['x', 'position_ids', 'table', 'table'],
        outputs: ['y'],
      },
    ],
    32,
  ],
] as const)('counts positions by %s', (_, nodes, expected) => {
  expect(countPositions(graphOf(nodes))).toBe(expected);
});

it('limits windows by the position tables of a graph whose configuration names a longer context', async () => {
  const model = join(folder(), 'model');
  await cp(GENAI, model, { recursive: true });
  const file = join(model, 'genai_config.json');
  const config = JSON.parse(await readFile(file, 'utf8'));
  config.model.context_length = 4096;
  await writeFile(file, JSON.stringify(config));
  const text = join(folder(), 'long.txt');
  await writeFile(text, 'The quick brown fox jumps over the lazy dog. '.repeat(200));

  const opened = await openModelFolder(model);
  const longest = await opened.longestWindow();
  await opened.close();

  expect(longest).toBe(128);
  const [measured] = await evaluateModels({ models: [model], texts: [text] });
  expect(measured!.perplexity[0]!.perplexity).toBeGreaterThan(1);
  await expect(evaluateModels({ models: [model], texts: [text], windowLength: 512 })).rejects.toThrow(
    'windowLength is 512, but the model reads at most 128 tokens',
  );
});
