import { NumericalError, OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { JobControl } from '../progress.js';
import type { Bundle, SequenceScore } from './bundle.js';
import { type EncodingOptions, encodeItem } from './encode-item.js';
import type { LanguageModel } from './language-model.js';
import type { ScoreLog } from './score-log.js';
import type { TaskItem } from './task-items.js';
import { type ItemScore, summarizeTask, type TaskResult } from './task-result.js';

export interface TaskOptions extends EncodingOptions, JobControl {
  /** Log of scores, from which an interrupted run resumes with bit-identical results. Default: none. */
  readonly log?: ScoreLog<ItemScore> | undefined;
}

/**
 * Measures a model on a task by the protocol of lm-evaluation-harness.
 *
 * @param items Items of one kind, as `readTaskItems` returns them.
 * @throws OptionError for candidates that cannot be encoded, naming the item, or options out of range.
 * @throws NumericalError when a log-likelihood is not finite.
 */
export async function measureTask(
  model: LanguageModel,
  items: readonly TaskItem[],
  options: TaskOptions,
): Promise<TaskResult> {
  const { contextLength, log, onProgress, signal } = options;
  if (contextLength !== undefined && (!Number.isInteger(contextLength) || contextLength < 1)) {
    throw new OptionError(`contextLength is ${contextLength}, expected an integer of at least 1`);
  }
  const kind = items[0]?.kind ?? 'multiple-choice';
  const scores = new Map([...(log?.known ?? [])].filter(([index, score]) => isScoreOf(items[index], score)));
  const report = () => onProgress?.({ stage: kind, done: scores.size, total: items.length });
  report();
  signal?.throwIfAborted();
  for await (const batch of model.scoreBundles(encodeAll(items, options), (index) => scores.has(index))) {
    const fresh = batch
      .filter(({ index }) => !scores.has(index))
      .map(({ index, sequences }) => toItemScore(items[index]!, index, sequences));
    await log?.add(fresh);
    for (const score of fresh) scores.set(score.index, score);
    report();
    signal?.throwIfAborted();
  }
  return summarizeTask(
    kind,
    items.map((_, index) => scores.get(index)!),
  );
}

/** Encodes lazily: encoding thousands of items at once would delay progress. */
function* encodeAll(items: readonly TaskItem[], options: EncodingOptions): Generator<Bundle> {
  for (const item of items) yield encodeItem(item, options);
}

/** Whether a saved score fits an item: those of damaged or other files are measured again. */
const isScoreOf = (item: TaskItem | undefined, { gold, logLikelihoods }: ItemScore): boolean =>
  item !== undefined && gold === item.gold && logLikelihoods.length === item.candidates.length;

function toItemScore(
  { place, gold, candidates }: TaskItem,
  index: number,
  scores: readonly SequenceScore[],
): ItemScore {
  const logLikelihoods = scores.map(({ nll }) => -sum(nll));
  if (!logLikelihoods.every(Number.isFinite)) {
    throw new NumericalError(
      `${place}: the model's log-likelihoods are ${logLikelihoods.join(', ')}; check its weights, or run it in float32`,
    );
  }
  return {
    index,
    gold,
    logLikelihoods,
    isGreedy: scores.map(({ isGreedy }) => isGreedy),
    characterCounts: candidates.map(({ characterCount }) => characterCount),
    tokenCounts: scores.map(({ nll }) => nll.length),
  };
}
