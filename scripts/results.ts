/**
 * Measures the tables of docs/results.md on a model, one process an experiment. What is measured is kept in
 * docs/results/NAME.json and not measured again, so that a run can be stopped and resumed.
 *
 *   npm run results -- MODEL_FOLDER --data DATA_FOLDER [--name smollm2] [--only TABLE,...] [--windows 64] [--keep FOLDER]
 *
 * DATA_FOLDER holds wikitext2/{train-head,valid}.raw.txt and text/*.txt. With --keep the pruned models stay there, and a
 * figure that is wanted later is measured without pruning again.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { EXPERIMENTS } from './results/experiments.js';
import { formatResults } from './results/format-results.js';
import type { Measurement, Measurements, Task } from './results/measurement.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: 'string' },
    name: { type: 'string' },
    only: { type: 'string' },
    keep: { type: 'string' },
    windows: { type: 'string', default: '64' },
  },
});
const [model] = positionals;
if (model === undefined || values.data === undefined) {
  throw new Error(
    'usage: npm run results -- MODEL_FOLDER --data DATA_FOLDER [--name NAME] [--only TABLE,...] [--windows N] [--keep FOLDER]',
  );
}
const data = resolve(values.data);
const name = values.name ?? basename(resolve(model));
const file = `docs/results/${name}.json`;
const known: Measurements = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
const texts = {
  wiki: join(data, 'wikitext2/valid.raw.txt'),
  ...Object.fromEntries(
    readdirSync(join(data, 'text')).map((text) => [basename(text, '.txt'), join(data, 'text', text)]),
  ),
};
const calibration = {
  source: { file: join(data, 'wikitext2/train-head.raw.txt') },
  windowCount: Number(values.windows),
  windowLength: 512,
};

for (const { id, options, tables } of EXPERIMENTS) {
  if (values.only !== undefined && !tables.some((table) => values.only!.split(',').includes(table))) continue;
  const stated = JSON.stringify({ ...options, windows: calibration.windowCount });
  if (known[id]?.options === stated) continue;
  process.stderr.write(`${new Date().toLocaleTimeString()} ${id}\n`);
  const task: Task = {
    model: resolve(model),
    folder: values.keep ? resolve(values.keep, slug(id)) : join(tmpdir(), `fang-prune-results-${process.pid}`),
    keep: values.keep !== undefined,
    ...(options && { options: { ...options, calibration } }),
    texts,
  };
  const printed = execFileSync('npx', ['tsx', 'scripts/results/measure-one.mts', JSON.stringify(task)], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  known[id] = { options: stated, measurement: JSON.parse(printed) as Measurement };
  mkdirSync('docs/results', { recursive: true });
  writeFileSync(file, `${JSON.stringify(known, null, 1)}\n`);
}
writeFileSync(`docs/results/${name}.md`, formatResults(name, known));

function slug(id: string): string {
  return id.replace(/[^a-z0-9]+/gi, '-').replace(/-$/, '');
}
