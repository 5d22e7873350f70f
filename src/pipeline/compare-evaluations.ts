import { counted } from '../counted.js';
import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import {
  type ComparablePerplexity,
  comparePerplexities,
  explainPerplexities,
  type PerplexityComparison,
} from '../evaluation/compare-perplexities.js';
import { type ComparisonOptions, compareResults, type TaskComparison } from '../evaluation/compare-results.js';
import { explainComparison } from '../evaluation/explain-comparison.js';
import type { WindowScore } from '../evaluation/perplexity.js';
import { parseScoreLines, type ScoredRun } from '../evaluation/score-lines.js';
import { type ItemScore, summarizeTask, type TaskResult } from '../evaluation/task-result.js';
import { COMPARE } from '../options/commands.js';
import { COMPARISON } from '../options/comparison.js';
import { checkOptions, rowsOf } from '../options/option.js';
import { parseJson } from '../parse-json.js';
import type { JobControl } from '../progress.js';
import type { Files, Platform } from '../runtime/platform.js';
import { readText } from '../storage/read-text.js';
import type { TaskReport } from './measurements.js';

/** Results of one model; an `Evaluation` fits. */
export interface EvaluatedModel {
  readonly model: string;
  readonly tasks?: readonly ComparableTask[] | undefined;
  readonly perplexity?: readonly ComparableText[] | undefined;
}

/** A task's result, and the SHA-256 of the task file it was measured on. */
export type ComparableTask = TaskResult & {
  readonly file: string;
  readonly protocol: Pick<TaskReport['protocol'], 'taskSha256'>;
};

/** A perplexity by window, and the name of its text. */
export type ComparableText = ComparablePerplexity & { readonly text: string };

/** Two models compared on one task or one text. */
export type ModelComparison = ComparedTasks | ComparedPerplexities;

interface ComparedModels {
  /** The task file, or the text. */
  readonly file: string;
  /** Compared models: the verdict is about B. */
  readonly a: string;
  readonly b: string;
  /** The verdict in a sentence. */
  readonly summary: string;
}

/** Two models compared on one task. */
export interface ComparedTasks extends ComparedModels, TaskComparison {
  readonly kind: 'task';
}

/** Two models compared on one text. */
export interface ComparedPerplexities extends ComparedModels, PerplexityComparison {
  readonly kind: 'perplexity';
}

/**
 * Compares models with the first one, on every task and every text that both were measured on.
 * @throws OptionError when there is nothing in common, when protocols differ, or options are out of range.
 */
export function compareEvaluations(
  evaluations: readonly EvaluatedModel[],
  options: ComparisonOptions = {},
): ModelComparison[] {
  const checked = checkOptions(options, COMPARISON);
  const [first, ...others] = evaluations;
  if (first === undefined || others.length === 0) {
    throw new OptionError(`found ${counted(evaluations.length, 'evaluated model')}; a comparison needs two`);
  }
  return others.flatMap((other) => compareTwo(first, other, checked));
}

function compareTwo(a: EvaluatedModel, b: EvaluatedModel, options: ComparisonOptions): ModelComparison[] {
  const found = [...compareTexts(a, b, options), ...compareTasks(a, b, options)];
  if (found.length > 0) return found;
  const list = ({ model, tasks = [], perplexity = [] }: EvaluatedModel) =>
    `${model} on ${[...perplexity.map(({ text }) => text), ...tasks.map(({ file }) => file)].join(', ') || 'none'}`;
  throw new OptionError(`no text or task in common: ${list(a)}; ${list(b)}; measure both on the same files`);
}

function compareTexts(a: EvaluatedModel, b: EvaluatedModel, options: ComparisonOptions): ComparedPerplexities[] {
  return (a.perplexity ?? []).flatMap((one) => {
    const other = findText(one, b.perplexity ?? []);
    if (other === undefined) return [];
    const comparison = withNames(`${one.text}, ${a.model} (A) and ${b.model} (B)`, () =>
      comparePerplexities(one, other, options),
    );
    const summary = explainPerplexities(comparison);
    return [{ kind: 'perplexity', file: one.text, a: a.model, b: b.model, ...comparison, summary }];
  });
}

/** Runs a comparison. @throws OptionError prefixed by the compared names. */
function withNames<T>(names: string, compare: () => T): T {
  try {
    return compare();
  } catch (cause) {
    if (cause instanceof OptionError) throw new OptionError(`${names}: ${cause.message}`, { cause });
    throw cause;
  }
}

/** Finds a text by its hash, else one of the same name, which the comparison then refuses. */
function findText(one: ComparableText, others: readonly ComparableText[]): ComparableText | undefined {
  const hashOf = ({ protocol }: ComparableText) => protocol.textSha256 ?? protocol.tokensSha256;
  return (
    others.find((other) => hashOf(other) !== undefined && hashOf(other) === hashOf(one)) ??
    others.find(({ text }) => text === one.text)
  );
}

function compareTasks(a: EvaluatedModel, b: EvaluatedModel, options: ComparisonOptions): ComparedTasks[] {
  return (a.tasks ?? []).flatMap((one) => {
    const other = b.tasks?.find(({ protocol }) => protocol.taskSha256 === one.protocol.taskSha256);
    if (other === undefined) return [];
    checkProtocols(one, other);
    const comparison = compareResults(one, other, options);
    const summary = explainComparison(comparison);
    return [{ kind: 'task', file: one.file, a: a.model, b: b.model, ...comparison, summary }];
  });
}

/** @throws OptionError when the same items were measured with different protocols. */
function checkProtocols(one: ComparableTask, other: ComparableTask): void {
  const [a, b]: Record<string, unknown>[] = [{ ...one.protocol }, { ...other.protocol }];
  const differing = ['delimiter', 'bos'].filter((key) => a?.[key] !== b?.[key]);
  if (differing.length === 0) return;
  throw new OptionError(`${one.file} was measured with different ${differing.join(' and ')}; use the same for both`);
}

/**
 * Reads evaluations from files: the output of `fang-prune eval --json`, or the score files of `--resume`.
 * @throws OptionError for a file that is neither, naming it.
 */
async function readEvaluations(files: Files, paths: readonly string[]): Promise<EvaluatedModel[]> {
  const evaluations: EvaluatedModel[] = [];
  for (const path of paths) {
    const content = await readText(files, path, 'evaluation');
    evaluations.push(...(isScoreFile(content) ? parseScores(content, path) : parseEvaluations(content, path)));
  }
  return evaluations;
}

function isScoreFile(content: string): boolean {
  return content.startsWith('{"scores":');
}

function parseScores(content: string, path: string): EvaluatedModel[] {
  const { runs, scores } = parseScoreLines(content, path) ?? { runs: [], scores: [] };
  const byModel = new Map<string, ScoredModel>();
  for (const [at, run] of runs.entries()) {
    const sorted = [...scores[at]!.values()].sort((a, b) => a.index - b.index) as unknown[];
    if (sorted.length === 0) continue;
    const evaluated = byModel.get(run.modelSha256) ?? { model: run.model, tasks: [], perplexity: [] };
    if (run.kind === 'task') evaluated.tasks.push(taskOf(run, sorted as ItemScore[]));
    if (run.kind === 'perplexity') evaluated.perplexity.push(textOf(run, sorted as WindowScore[]));
    byModel.set(run.modelSha256, evaluated);
  }
  return [...byModel.values()];
}

interface ScoredModel {
  readonly model: string;
  readonly tasks: ComparableTask[];
  readonly perplexity: ComparableText[];
}

function taskOf({ source, sourceSha256, protocol }: ScoredRun, items: readonly ItemScore[]): ComparableTask {
  const result = summarizeTask(items[0]!.logLikelihoods.length === 1 ? 'last-word' : 'multiple-choice', items);
  return { file: source, ...result, protocol: { ...protocol, taskSha256: sourceSha256 } };
}

/** Result of the windows before the first missing one. A default window length is the first window's, which is complete. */
function textOf({ source, sourceSha256, protocol }: ScoredRun, scores: readonly WindowScore[]): ComparableText {
  const windows = scores.filter(({ index }, at) => index === at).map(({ nll, tokenCount }) => ({ nll, tokenCount }));
  const firstLength =
    (windows[0]?.tokenCount ?? 0) +
    (Array.isArray(protocol.leadingTokens) && protocol.leadingTokens.length > 0 ? 0 : 1);
  const windowLength = Number(protocol.windowLength ?? firstLength);
  const stride = Number(protocol.stride ?? windowLength);
  return { text: source, windows, protocol: { textSha256: sourceSha256, windowLength, stride } };
}

function parseEvaluations(content: string, path: string): EvaluatedModel[] {
  const { models } = parseObject(content, path);
  if (!Array.isArray(models) || !models.every(isEvaluation)) {
    throw new OptionError(
      `${path} is not an evaluation: expected the output of "fang-prune eval ... --json", or its --resume file`,
    );
  }
  return models;
}

function parseObject(content: string, path: string): Record<string, unknown> {
  try {
    return Object(parseJson(content)) as Record<string, unknown>;
  } catch (cause) {
    throw new OptionError(`${path} is not JSON: ${errorMessage(cause)}`, { cause });
  }
}

function isEvaluation(value: unknown): value is EvaluatedModel {
  const { model, tasks = [], perplexity = [] } = Object(value) as Record<string, unknown>;
  const lists = [
    [tasks, isTask],
    [perplexity, isText],
  ] as const;
  return typeof model === 'string' && lists.every(([list, isItem]) => Array.isArray(list) && list.every(isItem));
}

function isText(value: unknown): boolean {
  const { text, windows, protocol } = Object(value) as Record<string, unknown>;
  const { windowLength, stride, ...identity } = Object(protocol) as Record<string, unknown>;
  const isCount = (count: unknown) => Number.isSafeInteger(count) && Number(count) > 0;
  const isWindow = (window: unknown) => {
    const { nll, tokenCount } = Object(window) as Record<string, unknown>;
    return Number.isFinite(nll) && isCount(tokenCount);
  };
  const hashes = [identity.textSha256, identity.tokensSha256].filter((hash) => hash !== undefined);
  return (
    typeof text === 'string' &&
    Array.isArray(windows) &&
    windows.every(isWindow) &&
    isCount(windowLength) &&
    isCount(stride) &&
    hashes.length > 0 &&
    hashes.every((hash) => typeof hash === 'string')
  );
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

/** Evaluations to compare. */
export interface CompareRequest extends ComparisonOptions, JobControl {
  /** Files of evaluations; the first model in them is compared with all others. */
  readonly files: readonly string[];
}

/** Compares saved evaluations. @throws OptionError */
export async function runComparison(platform: Platform, request: CompareRequest): Promise<ModelComparison[]> {
  checkOptions(request, rowsOf(COMPARE));
  const { files, onProgress: _, signal, ...options } = request;
  const evaluations = await readEvaluations(platform.files, files);
  signal?.throwIfAborted();
  return compareEvaluations(evaluations, options);
}
