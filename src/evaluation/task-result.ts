import { OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { TaskKind } from './task-items.js';

/** Score of one item. */
export interface ItemScore {
  /** Index of the item in the task. */
  readonly index: number;
  readonly gold: number;
  /** ln p(continuation | context) of every candidate, in nats. */
  readonly logLikelihoods: readonly number[];
  /** Whether greedy decoding would generate the continuation, by candidate. */
  readonly isGreedy: readonly boolean[];
  /** Length of every choice in characters (code points), and of every continuation in tokens. */
  readonly characterCounts: readonly number[];
  readonly tokenCounts: readonly number[];
}

/** Fields of every answer. */
export interface CommonAnswer {
  readonly index: number;
  /** Whether the item counts as right for acc. */
  readonly isRight: boolean;
  /** -ln p of the right continuation, in nats. */
  readonly goldNll: number;
  /** Only for multiple choice. */
  readonly gold?: number | undefined;
  readonly choice?: number | undefined;
  readonly choiceNorm?: number | undefined;
}

/** The model's choice for one item. */
export interface MultipleChoiceAnswer extends CommonAnswer {
  readonly gold: number;
  /** Index of the most likely candidate, by log-likelihood and by log-likelihood per character; ties go to the first. */
  readonly choice: number;
  readonly choiceNorm: number;
}

/** Whether greedy decoding generates the target. */
export interface LastWordAnswer extends CommonAnswer {
  readonly gold?: undefined;
  readonly choice?: undefined;
  readonly choiceNorm?: undefined;
}

/** Fields of every result. */
export interface CommonResult {
  readonly itemCount: number;
  /** Accuracy: the most likely candidate is right, or greedy decoding generates the target. */
  readonly acc: number;
  /** Standard error of a mean: sample deviation over the root of the count; NaN for a single item. */
  readonly accStderr: number;
  /** Mean over items of -ln p(right continuation), in nats. */
  readonly goldNll: number;
}

export interface MultipleChoiceResult extends CommonResult {
  readonly kind: 'multiple-choice';
  /** acc with log-likelihoods divided by the choice's characters, as in lm-evaluation-harness. */
  readonly accNorm: number;
  readonly accNormStderr: number;
  readonly perplexity?: undefined;
  /** By item, in the order of the task. */
  readonly answers: readonly MultipleChoiceAnswer[];
}

export interface LastWordResult extends CommonResult {
  readonly kind: 'last-word';
  readonly accNorm?: undefined;
  readonly accNormStderr?: undefined;
  /** exp of goldNll: per target, not per token, as in lm-evaluation-harness. */
  readonly perplexity: number;
  readonly answers: readonly LastWordAnswer[];
}

export type TaskResult = MultipleChoiceResult | LastWordResult;

/** Aggregates scores as lm-evaluation-harness does. @throws OptionError when there are none. */
export function summarizeTask(kind: TaskKind, scores: readonly ItemScore[]): TaskResult {
  if (scores.length === 0) throw new OptionError('the task has no items to summarise; check the file and the limit');
  return kind === 'multiple-choice' ? summarizeMultipleChoice(scores) : summarizeLastWord(scores);
}

function summarizeMultipleChoice(scores: readonly ItemScore[]): MultipleChoiceResult {
  const answers = scores.map(({ index, gold, logLikelihoods, characterCounts }) => {
    const choice = indexOfLargest(logLikelihoods);
    const choiceNorm = indexOfLargest(logLikelihoods.map((value, at) => value / characterCounts[at]!));
    return { index, gold, choice, choiceNorm, isRight: choice === gold, goldNll: -logLikelihoods[gold]! };
  });
  const rightNorm = answers.map(({ choiceNorm, gold }) => Number(choiceNorm === gold));
  return {
    kind: 'multiple-choice',
    ...summarizeAnswers(answers),
    accNorm: mean(rightNorm),
    accNormStderr: standardError(rightNorm),
    answers,
  };
}

function summarizeLastWord(scores: readonly ItemScore[]): LastWordResult {
  const answers = scores.map(({ index, isGreedy, logLikelihoods }) => ({
    index,
    isRight: isGreedy[0]!,
    goldNll: -logLikelihoods[0]!,
  }));
  const summary = summarizeAnswers(answers);
  return { kind: 'last-word', ...summary, perplexity: Math.exp(summary.goldNll), answers };
}

function summarizeAnswers(answers: readonly CommonAnswer[]): CommonResult {
  const right = answers.map(({ isRight }) => Number(isRight));
  return {
    itemCount: answers.length,
    acc: mean(right),
    accStderr: standardError(right),
    goldNll: mean(answers.map(({ goldNll }) => goldNll)),
  };
}

function indexOfLargest(values: readonly number[]): number {
  return values.indexOf(values.reduce((largest, value) => Math.max(largest, value), Number.NEGATIVE_INFINITY));
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

/** Sample standard deviation over the root of the count. */
function standardError(values: readonly number[]): number {
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}
