import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { formatSchemas } from '../../scripts/schemas/format-schemas.js';
import { ModelFormatError } from '../../src/errors.js';
import { observe, prune } from '../../src/node.js';
import { checkReport } from '../../src/report/check-report.js';
import { checkRecipe } from '../../src/report/parse-recipe.js';
import { checkSavedStatistics } from '../../src/report/parse-statistics.js';
import { sampleReport } from '../support/sample-report.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

type Json = Record<string, unknown>;

const READERS = { report: checkReport, recipe: checkRecipe, statistics: checkSavedStatistics } as const;
type FileKind = keyof typeof READERS;

const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
const compile = (kind: FileKind) => ajv.compile(JSON.parse(readFileSync(`schema/${kind}.json`, 'utf8')));
const VALIDATORS = {
  report: compile('report'),
  recipe: compile('recipe'),
  statistics: compile('statistics'),
} as const;

const written: Partial<Record<FileKind, Json>> = {};

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'fang-prune-schemas-'));
  const at = (path: string) => join(folder, path);
  const shared = { model: SHORT_LLAMA, method: 'o-fang', calibration: { windowCount: 2, windowLength: 48 } } as const;
  await prune({ ...shared, out: at('out'), recipe: at('recipe'), sparsity: 0.3, certify: false });
  await observe({ ...shared, out: at('statistics') });
  const read = async (path: string): Promise<Json> => JSON.parse(await readFile(at(path), 'utf8'));
  written.report = await read('out/fang-prune-report.json');
  written.recipe = await read('recipe/recipe.json');
  written.statistics = await read('statistics/statistics.json');
  await rm(folder, { recursive: true });
}, 60_000);

it.each([...formatSchemas()])('%s is as `npm run schemas` writes it', (file, content) => {
  expect(readFileSync(file, 'utf8')).toBe(content);
});

it.each(Object.keys(READERS) as FileKind[])('a written %s is valid', (kind) => {
  const validate = VALIDATORS[kind];
  validate(written[kind]);
  expect(validate.errors).toBeNull();
});

it('a report with all fields is valid', () => {
  const validate = VALIDATORS.report;
  validate(JSON.parse(JSON.stringify(sampleReport())));
  expect(validate.errors).toBeNull();
});

it.each<[FileKind, string, unknown]>([
  ['report', 'schema', 'fang-prune-report/0'],
  ['report', 'sparsity', { requested: 0.3, achieved: 0.3 }],
  ['report', 'modules', [{ block: 0, kind: 'mlp' }]],
  ['report', 'remarks', ['a', 1]],
  ['report', 'seed', undefined],
  ['recipe', 'schema', 'fang-prune-report/1'],
  ['recipe', 'modules', [{ index: 0, block: 0, kind: 'ffn', keep: [0.5] }]],
  ['recipe', 'tensors', { file: 'recipe.safetensors' }],
  ['recipe', 'calibration', 'text'],
  ['statistics', 'metric', 'perplexity'],
  ['statistics', 'shard', { index: 0, count: 2, firstWindow: 0 }],
  ['statistics', 'modules', [{ index: 0, block: 0, kind: 'ffn', contexts: {} }]],
])('the schema and the reader refuse a %s with an invalid %s', (kind, field, value) => {
  const broken = JSON.parse(JSON.stringify({ ...written[kind], [field]: value }));
  expect(VALIDATORS[kind](broken)).toBe(false);
  expect(() => READERS[kind](broken, 'a.json')).toThrow(ModelFormatError);
});
