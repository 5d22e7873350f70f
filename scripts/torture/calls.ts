import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodePlatform } from '../../src/node/node-platform.js';
import {
  applyRecipe,
  compareFiles,
  describe,
  evaluateModels,
  evaluateTasks,
  heal,
  type ModuleDescription,
  NumericalError,
  perplexity,
  prune,
  quantize,
  type Recipe,
} from '../../src/node.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import type { JobControl } from '../../src/progress.js';
import type { Platform } from '../../src/runtime/platform.js';
import { hashFolder } from './hash-folder.js';

/** Files and folders in the folder that a trial works in. */
export const MODEL = 'model';
export const TASKS = 'tasks.jsonl';
export const PLACES = {
  text: 'text.txt',
  documents: 'documents.jsonl',
  statistics: 'statistics',
  recipe: 'recipe',
  pruned: 'pruned',
  beside: 'beside.json',
  measured: 'measured.json',
  windows: 'windows.jsonl',
  scores: 'scores.jsonl',
  quantised: 'quantised',
  healed: 'healed',
  cut: 'cut',
  foreign: 'foreign',
  undisturbed: 'undisturbed.txt',
} as const;

/** A call succeeded with a wrong result. */
export class WrongResult extends Error {}

/** Letters, digits, symbols of several scripts, and special tokens. */
export const TEXT = `${'Once upon a time a girl had 3 cats, 12 dogs and ½ of a cake. '.repeat(20)}Ünïcödé 中文 😀 <s></s>\u0000`;

/** Items of a task, for a model that knows nothing. */
export const TASK_LINES = [0, 1]
  .map((gold) => JSON.stringify({ query: 'Once upon', choices: [' a time', ' 3 cats'], gold }))
  .join('\n');

/** A calibration file of both kinds of lines. */
export const DOCUMENT_LINES = [
  { text: TEXT.slice(0, 600) },
  { input_ids: Array.from({ length: 64 }, (_, at) => 3 + (at % 7)) },
]
  .map((line) => JSON.stringify(line))
  .join('\n');

export const CALIBRATION = { windowCount: 2, windowLength: 16, source: { text: TEXT } } as const;

export async function pruneIn(folder: string, more: object = {}) {
  const report = await prune({
    model: join(folder, MODEL),
    out: join(folder, 'out'),
    sparsity: 0.3,
    method: 'flap',
    calibration: CALIBRATION,
    ...more,
  });
  const { achieved } = report.sparsity;
  if (!(achieved >= 0 && achieved < 1)) throw new WrongResult(`it removed ${achieved}`);
  for (const { keep } of report.modules)
    if (keep?.some((unit, at) => !Number.isInteger(unit) || unit < 0 || unit <= (keep[at - 1] ?? -1)))
      throw new WrongResult(`a module keeps ${keep}`);
  return report;
}

/** A run that is aborted half way when a subject is prepared. */
export const pruneCut = (
  folder: string,
  { control, platform = nodePlatform, sparsity = 0.3, name = PLACES.cut }: CutOptions = {},
) =>
  runPrune(platform, {
    ...control,
    model: join(folder, MODEL),
    out: join(folder, name),
    sparsity,
    method: 'o-fang',
    certify: false,
    calibration: CALIBRATION,
  });

interface CutOptions {
  readonly control?: JobControl;
  readonly platform?: Platform;
  readonly sparsity?: number;
  readonly name?: string;
}

/** Resumes from a journal; the result must equal that of an uninterrupted run. */
export async function resumeRuns(folder: string): Promise<void> {
  await pruneCut(folder);
  const made = hashFolder(join(folder, PLACES.cut));
  if (existsSync(join(folder, `${PLACES.cut}.partial`))) throw new WrongResult('the workspace was left');
  if (made !== readFileSync(join(folder, PLACES.undisturbed), 'utf8'))
    throw new WrongResult('other bytes than an undisturbed run made');
}

export const quantiseIn = (folder: string) =>
  quantize({ model: join(folder, MODEL), out: join(folder, PLACES.quantised), dtype: 'q4', calibration: CALIBRATION });

export const healIn = (folder: string, more: object = {}) =>
  heal({
    dense: join(folder, MODEL),
    pruned: join(folder, PLACES.pruned),
    out: join(folder, PLACES.healed),
    heal: { windowCount: 2, share: 0 },
    calibration: { windowLength: 16, source: { text: TEXT } },
    certify: false,
    ...more,
  });

/** Applies a recipe; the resulting model must have the recipe's widths. */
export async function applyIn(folder: string): Promise<void> {
  const out = join(folder, 'out');
  await applyRecipe({ model: join(folder, MODEL), recipe: join(folder, PLACES.recipe), out });
  const { modules } = JSON.parse(
    readFileSync(join(folder, PLACES.recipe, 'recipe.json'), 'utf8').replace(/^\uFEFF/, ''),
  ) as Recipe;
  await perplexity({ model: out, content: TEXT, windowCount: 1, windowLength: 16 }).catch((error: unknown) => {
    // NaN weights are a wrong result; a model without a tokenizer cannot be evaluated.
    if (error instanceof NumericalError) throw new WrongResult(error.message);
  });
  const blocks = (await describe({ model: out })).blocks;
  for (const { block, kind, keep } of modules) {
    const found = blocks[block]?.modules.filter((module) => module.kind === kind) ?? [];
    if (!found.some((module) => unitCountOf(module) === new Set(keep).size))
      throw new WrongResult(`block ${block} ${kind} has ${found.map(unitCountOf)} units where ${keep.length} stay`);
  }
}

const unitCountOf = ({ width, heads }: ModuleDescription): number | undefined => width ?? heads;

/** Windows that a model writes into a file, and resumes from. */
export async function generateIn(folder: string): Promise<void> {
  const file = join(folder, PLACES.windows);
  await pruneIn(folder, {
    dryRun: true,
    report: false,
    calibration: { windowCount: 3, windowLength: 16, generate: { share: 1, file, documentLength: 8 } },
  });
  const [, ...lines] = readFileSync(file, 'utf8').trimEnd().split('\n');
  if (lines.length < 3) throw new WrongResult(`the file has ${lines.length} windows of 3`);
}

/** Runs all measurements, with a score file. */
export async function evaluateIn(folder: string): Promise<void> {
  const [evaluation] = await evaluateModels({
    models: [join(folder, MODEL)],
    tasks: [join(folder, TASKS)],
    texts: [join(folder, PLACES.text)],
    resume: join(folder, PLACES.scores),
    windowLength: 16,
    windowCount: 3,
  });
  const { tasks = [], perplexity = [] } = evaluation!;
  for (const { acc, goldNll } of tasks) checkFigures({ acc, goldNll });
  for (const text of perplexity) checkFigures({ perplexity: text.perplexity });
}

/** Measures a task file. */
export async function measureTasksIn(folder: string): Promise<void> {
  const { acc, goldNll, itemCount, answers } = await evaluateTasks({
    model: join(folder, MODEL),
    file: join(folder, TASKS),
  });
  checkFigures({ acc, goldNll });
  if (itemCount < 1 || answers.length !== itemCount)
    throw new WrongResult(`${answers.length} answers to ${itemCount} items`);
}

/** Fractions are at most 1; losses and perplexities are at least 0. */
function checkFigures(figures: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(figures)) {
    const isRight = Number.isFinite(value) && value >= 0 && (name !== 'acc' || value <= 1);
    if (!isRight) throw new WrongResult(`${name} is ${value}`);
  }
}

/** Compares measurements with themselves. */
export async function compareIn(folder: string, name: string): Promise<void> {
  const path = join(folder, name);
  for (const comparison of await compareFiles({ files: [path] })) {
    const { difference } = comparison.kind === 'task' ? comparison.acc : comparison.logPerplexity;
    if (!Number.isFinite(difference)) throw new WrongResult(`${comparison.file} differs by ${difference}`);
  }
}

/** Writes texts for calibration and measurement. */
export function writeTexts(folder: string): void {
  writeFileSync(join(folder, TASKS), TASK_LINES);
  writeFileSync(join(folder, PLACES.text), TEXT.replace('\u0000', ''));
  writeFileSync(join(folder, PLACES.documents), DOCUMENT_LINES);
  appendFileSync(join(folder, PLACES.documents), '\n');
}
