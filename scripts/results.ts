/**
 * Measures the tables of docs/research/results.md on a model, one process per ladder: experiments that differ only in their
 * sparsity measure the dense model once. Every figure is saved in docs/results/NAME.json at once and not measured again, so that
 * a run can be stopped and resumed; pruned models are in a temporary folder meanwhile. The tables of all docs/results/*.json are
 * written to docs/research/results.md and docs/research/measured-results.md.
 *
 * DATA_FOLDER contains wikitext2/{train-head,valid}.raw.txt, text/*.txt and tasks/*.jsonl. With --keep the pruned models and the
 * generated windows remain there, so that further figures are measured without pruning again. --tasks N also measures the first
 * N items of every task. --text-windows: number of scored windows per text. --python: a Python with onnxruntime and onnx, for the
 * rows of ONNX Runtime's tools, which are left out without it. --only selects experiments by name, such as "flap 30 %".
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { readArguments, refuse } from './read-arguments.js';
import { EXPERIMENTS, type Experiment } from './results/experiments.js';
import { joinToLadders } from './results/ladders.js';
import { planTask, referenceFolder, type Setup, stateOptions } from './results/plan-task.js';
import { runTask } from './results/run-task.js';
import { results, writePages } from './results/store.js';

const USAGE =
  'npm run results -- MODEL_FOLDER --data DATA_FOLDER [--name NAME] [--only ID]... [--table TABLE]... [--windows 64] ' +
  '[--keep FOLDER] [--tasks 200] [--text-windows 16] [--python PYTHON], or npm run results -- --format-only';
const { values, positionals } = readArguments(USAGE, {
  data: { type: 'string' },
  name: { type: 'string' },
  only: { type: 'string', multiple: true },
  table: { type: 'string', multiple: true },
  keep: { type: 'string' },
  windows: { type: 'string', default: '64' },
  tasks: { type: 'string', default: '0' },
  'text-windows': { type: 'string', default: '16' },
  python: { type: 'string' },
  'format-only': { type: 'boolean', default: false },
});

if (!values['format-only']) await measureAll();
writePages();

async function measureAll(): Promise<void> {
  const [model] = positionals;
  if (model === undefined || values.data === undefined) return refuse(USAGE, 'a model folder and --data are missing');
  const wanted = EXPERIMENTS.filter(isWanted);
  if (wanted.length === 0)
    return refuse(USAGE, `no such experiment; there are: ${EXPERIMENTS.map(({ id }) => id).join('; ')}`);
  const name = values.name ?? basename(resolve(model));
  const setup = setUp(name, resolve(model), resolve(values.data));
  for (const ladder of joinToLadders(wanted)) {
    if (!makeReference(ladder[0], setup)) continue;
    const task = planTask(ladder, setup, results.read(name));
    if (task === undefined) continue;
    say(task.rungs.map(({ id }) => id).join(', '));
    const isDone = await runTask(task, ({ id, measurement }) => {
      const experiment = ladder.find((rung) => rung.id === id)!;
      results.store(name, id, { options: stateOptions(experiment, setup), measurement });
    });
    if (isDone) continue;
    say('failed; going on with the next');
    process.exitCode = 1;
  }
}

/** Has ONNX Runtime's tools quantise the model where a row is theirs. @returns whether there is something to measure. */
function makeReference({ reference }: Experiment, setup: Setup): boolean {
  if (reference === undefined) return true;
  const folder = referenceFolder(reference, setup);
  if (existsSync(join(folder, 'onnx/model.onnx'))) return true;
  if (values.python === undefined) return false;
  execFileSync(values.python, ['scripts/results/quantise_ort.py', setup.model, folder, reference], {
    stdio: 'inherit',
  });
  return true;
}

function isWanted({ id, tables }: Experiment): boolean {
  const listed = (asked: readonly string[] | undefined, found: readonly string[]) =>
    asked === undefined || asked.some((item) => found.includes(item));
  return listed(values.only, [id]) && listed(values.table, tables);
}

function setUp(name: string, model: string, data: string): Setup {
  const filesIn = (folder: string) =>
    Object.fromEntries(
      readdirSync(join(data, folder)).map((entry) => [entry.split('.')[0]!, join(data, folder, entry)]),
    );
  const taskLimit = Number(values.tasks);
  return {
    model,
    calibration: join(data, 'wikitext2/train-head.raw.txt'),
    windowCount: Number(values.windows),
    textWindows: Number(values['text-windows']),
    texts: { wiki: join(data, 'wikitext2/valid.raw.txt'), ...filesIn('text') },
    tasks: taskLimit > 0 ? filesIn('tasks') : {},
    taskLimit,
    scratch: values.keep === undefined ? join(tmpdir(), 'fang-prune-results', name) : resolve(values.keep),
    keep: values.keep !== undefined,
  };
}

function say(text: string): void {
  process.stderr.write(`${new Date().toLocaleTimeString()} ${text}\n`);
}
