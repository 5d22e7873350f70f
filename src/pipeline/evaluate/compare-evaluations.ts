import { OptionError } from '../../errors.js';
import { type ComparisonOptions, compareResults, type TaskComparison } from '../../evaluation/compare-results.js';
import { explainComparison } from '../../evaluation/explain-comparison.js';
import { parseScoreLines } from '../../evaluation/score-lines.js';
import { type ItemScore, summarizeTask, type TaskResult } from '../../evaluation/task-result.js';
import { COMPARE } from '../../options/commands.js';
import { COMPARISON } from '../../options/comparison.js';
import { checkOptions, rowsOf } from '../../options/option.js';
import { parseJson } from '../../parse-json.js';
import type { Files, Platform } from '../../platform/platform.js';
import { reason } from '../../reason.js';
import { readText } from '../../storage/read-text.js';
import type { TaskReport } from './measurements.js';

/** Task results of one model; an `Evaluation` fits. */
export interface EvaluatedTasks {
  readonly model: string;
  readonly tasks: readonly ComparableTask[];
}

/** A task's result, and the SHA-256 of the task file it was measured on. */
export type ComparableTask = TaskResult & {
  readonly file: string;
  readonly protocol: Pick<TaskReport['protocol'], 'taskSha256'>;
};

/** Two models compared on one task. */
export interface ModelComparison extends TaskComparison {
  readonly file: string;
  /** The models compared: what B is, the verdict says. */
  readonly a: string;
  readonly b: string;
  /** The verdict in a sentence. */
  readonly summary: string;
}

/**
 * Compares models with the first one, on every task that both were measured on.
 * @throws OptionError when there is nothing to compare, or options are out of range.
 */
export function compareEvaluations(
  evaluations: readonly EvaluatedTasks[],
  options: ComparisonOptions = {},
): ModelComparison[] {
  checkOptions(options, COMPARISON);
  const [first, ...others] = evaluations;
  if (first === undefined || others.length === 0) {
    throw new OptionError(`found ${evaluations.length} evaluated models; a comparison needs two`);
  }
  return others.flatMap((other) => compareTwo(first, other, options));
}

function compareTwo(a: EvaluatedTasks, b: EvaluatedTasks, options: ComparisonOptions): ModelComparison[] {
  const pairs = a.tasks.flatMap((own) => {
    const other = b.tasks.find(({ protocol }) => protocol.taskSha256 === own.protocol.taskSha256);
    return other === undefined ? [] : [{ own, other }];
  });
  if (pairs.length === 0) {
    const list = ({ model, tasks }: EvaluatedTasks) =>
      `${model} on ${tasks.map(({ file }) => file).join(', ') || 'none'}`;
    throw new OptionError(`no task in common: ${list(a)}; ${list(b)}; measure both on the same task file`);
  }
  return pairs.map(({ own, other }) => {
    checkProtocols(own, other);
    const comparison = compareResults(own, other, options);
    return { file: own.file, a: a.model, b: b.model, ...comparison, summary: explainComparison(comparison) };
  });
}

/** @throws OptionError when the same items were measured in two ways. */
function checkProtocols(own: ComparableTask, other: ComparableTask): void {
  const [a, b]: Record<string, unknown>[] = [{ ...own.protocol }, { ...other.protocol }];
  const differing = ['delimiter', 'bos'].filter((key) => a?.[key] !== b?.[key]);
  if (differing.length === 0) return;
  throw new OptionError(`${own.file} was measured with different ${differing.join(' and ')}; measure both alike`);
}

/**
 * Reads evaluations from files: what `fang-prune eval --json` prints, or the score files of `--resume`.
 * @throws OptionError for a file that is neither, naming it.
 */
async function readEvaluations(files: Files, paths: readonly string[]): Promise<EvaluatedTasks[]> {
  const evaluations: EvaluatedTasks[] = [];
  for (const path of paths) {
    const content = await readText(files, path, 'evaluation');
    evaluations.push(...(isScoreFile(content) ? parseScores(content, path) : parseEvaluations(content, path)));
  }
  return evaluations;
}

function isScoreFile(content: string): boolean {
  return content.startsWith('{"scores":');
}

function parseScores(content: string, path: string): EvaluatedTasks[] {
  const { runs, scores } = parseScoreLines(content, path) ?? { runs: [], scores: [] };
  const byModel = new Map<string, EvaluatedTasks & { readonly tasks: ComparableTask[] }>();
  for (const [at, { kind, model, modelSha256, source, sourceSha256, protocol }] of runs.entries()) {
    if (kind !== 'task') continue;
    const items = [...scores[at]!.values()] as unknown as ItemScore[];
    if (items.length === 0) continue;
    items.sort((a, b) => a.index - b.index);
    const result = summarizeTask(items[0]!.logLikelihoods.length === 1 ? 'last-word' : 'multiple-choice', items);
    const evaluated = byModel.get(modelSha256) ?? { model, tasks: [] };
    evaluated.tasks.push({ file: source, ...result, protocol: { ...protocol, taskSha256: sourceSha256 } });
    byModel.set(modelSha256, evaluated);
  }
  return [...byModel.values()];
}

function parseEvaluations(content: string, path: string): EvaluatedTasks[] {
  const { models } = parseObject(content, path);
  if (!Array.isArray(models) || !models.every(isEvaluation)) {
    throw new OptionError(
      `${path} is no evaluation: expected what "fang-prune eval ... --tasks FILE --json" prints, or its --resume file`,
    );
  }
  return models;
}

function parseObject(content: string, path: string): Record<string, unknown> {
  try {
    return Object(parseJson(content)) as Record<string, unknown>;
  } catch (cause) {
    throw new OptionError(`${path} is not JSON: ${reason(cause)}`, { cause });
  }
}

function isEvaluation(value: unknown): value is EvaluatedTasks {
  const { model, tasks } = Object(value) as Record<string, unknown>;
  return typeof model === 'string' && Array.isArray(tasks) && tasks.every(isTask);
}

function isTask(value: unknown): boolean {
  const { kind, file, answers, protocol } = Object(value) as Record<string, unknown>;
  const { taskSha256 } = Object(protocol) as Record<string, unknown>;
  const isAnswer = (answer: unknown) => {
    const { index, isRight, goldNll, gold, choiceNorm } = Object(answer) as Record<string, unknown>;
    const hasChoice = kind === 'last-word' || [gold, choiceNorm].every(Number.isInteger);
    return Number.isInteger(index) && typeof isRight === 'boolean' && Number.isFinite(goldNll) && hasChoice;
  };
  return (
    (kind === 'multiple-choice' || kind === 'last-word') &&
    typeof file === 'string' &&
    typeof taskSha256 === 'string' &&
    Array.isArray(answers) &&
    answers.every(isAnswer)
  );
}

/** What to compare. */
export interface CompareRequest extends ComparisonOptions {
  /** Files of evaluations; the first model in them is compared with all others. */
  readonly files: readonly string[];
}

/** Compares evaluations that lie in files. @throws OptionError */
export async function runComparison(platform: Platform, request: CompareRequest): Promise<ModelComparison[]> {
  checkOptions(request, rowsOf(COMPARE));
  const { files, ...options } = request;
  return compareEvaluations(await readEvaluations(platform.files, files), options);
}
