/**
 * Measures the tables of docs/results.md on a model, one process an experiment. What is measured is kept in
 * docs/results/NAME.json and not measured again, so that a run can be stopped and resumed.
 *
 *   npm run results -- MODEL_FOLDER --data DATA_FOLDER [--name smollm2] [--only ID]... [--table TABLE]... [--windows 64]
 *     [--keep FOLDER] [--tasks 200] [--format-only]
 *
 * DATA_FOLDER holds wikitext2/{train-head,valid}.raw.txt, text/*.txt and tasks/*.jsonl. With --keep the pruned models and
 * the windows that the dense model wrote stay there, and a figure that is wanted later is measured without pruning again.
 * --tasks N measures the first N items of every task too.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { CalibrationOptions } from '../src/options.js';
import { EXPERIMENTS, type Experiment } from './results/experiments.js';
import { formatResults } from './results/format-results.js';
import type { Measurement, Measurements, Task } from './results/measurement.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: 'string' },
    name: { type: 'string' },
    only: { type: 'string', multiple: true },
    table: { type: 'string', multiple: true },
    keep: { type: 'string' },
    windows: { type: 'string', default: '64' },
    tasks: { type: 'string', default: '0' },
    'format-only': { type: 'boolean', default: false },
  },
});
const [model] = positionals;
if (model === undefined || values.data === undefined) {
  throw new Error(
    'usage: npm run results -- MODEL_FOLDER --data DATA_FOLDER [options]; see the top of scripts/results.ts',
  );
}
const data = resolve(values.data);
const name = values.name ?? basename(resolve(model));
const file = `docs/results/${name}.json`;
const known: Measurements = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
const scratch = values.keep === undefined ? join(tmpdir(), `fang-prune-results-${process.pid}`) : resolve(values.keep);
const filesIn = (folder: string) =>
  Object.fromEntries(
    readdirSync(join(data, folder)).map((entry) => [basename(entry).split('.')[0]!, join(data, folder, entry)]),
  );
const texts = { wiki: join(data, 'wikitext2/valid.raw.txt'), ...filesIn('text') };
const taskLimit = Number(values.tasks);

if (!values['format-only']) for (const experiment of EXPERIMENTS.filter(isWanted)) measure(experiment);
writeFileSync(`docs/results/${name}.md`, formatResults(name, known));

function isWanted({ id, tables }: Experiment): boolean {
  const listed = (wanted: readonly string[] | undefined, found: readonly string[]) =>
    wanted === undefined || wanted.some((item) => found.includes(item));
  return listed(values.only, [id]) && listed(values.table, tables);
}

function measure({ id, options }: Experiment): void {
  const stated = JSON.stringify({ ...options, windows: Number(values.windows) });
  const sofar = known[id]?.options === stated ? known[id].measurement : undefined;
  const tasks = taskLimit > 0 ? filesIn('tasks') : {};
  const isDone =
    Object.keys(texts).every((text) => sofar?.perplexities[text]) &&
    Object.keys(tasks).every((task) => sofar?.tasks?.[task]);
  if (isDone) return;
  process.stderr.write(`${new Date().toLocaleTimeString()} ${id}\n`);
  const task: Task = {
    model: resolve(model!),
    folder: join(scratch, id.replace(/[^a-z0-9]+/gi, '-').replace(/-$/, '')),
    keep: values.keep !== undefined,
    ...(options && { options: { ...options, calibration: calibrationOf(options.calibration) } }),
    texts,
    tasks,
    taskLimit,
    known: sofar,
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

/** WikiText for all; where the model writes a part of the windows, the same ones each time. */
function calibrationOf(own: CalibrationOptions = {}): CalibrationOptions {
  const windows = join(scratch, 'windows.jsonl');
  return {
    source: { file: join(data, 'wikitext2/train-head.raw.txt') },
    windowCount: Number(values.windows),
    windowLength: 512,
    ...own,
    ...(own.generate !== undefined &&
      own.generate !== false && { generate: { ...Object(own.generate), file: windows } }),
  };
}
