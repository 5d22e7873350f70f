import type { Items } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { NumericalError, OptionError } from '../errors.js';
import type { JobControl } from '../progress.js';
import { type EncodedPair, encodePair } from './encode-pair.js';
import type { LanguageModel } from './language-model.js';
import type { MultipleChoiceItem } from './multiple-choice-items.js';

export interface MultipleChoiceOptions extends JobControl {
  readonly tokenizer: Tokenizer;
  /** Put between context and continuation, as lm-evaluation-harness's `target_delimiter`. Default one space. */
  readonly delimiter?: string;
  /** Whether texts get the tokenizer's special tokens (BOS). Default false, lm-evaluation-harness's default. */
  readonly addSpecialTokens?: boolean;
  /** Items to score, counted from the first of the task. Default all. */
  readonly limit?: number;
  /** Items to skip, because an earlier run has scored them. Default 0. */
  readonly start?: number;
  /** Longest token sequence the model can read; contexts are cut from the left. Default: no limit. */
  readonly contextLength?: number;
}

/** What the model said to one item. */
export interface MultipleChoiceScore {
  /** Index of the item in the task. */
  readonly index: number;
  readonly gold: number;
  /** ln p(continuation | context) of every candidate, in nats. */
  readonly logLikelihoods: readonly number[];
  /** Length of every continuation in characters (code points) and in tokens. */
  readonly characterCounts: readonly number[];
  readonly tokenCounts: readonly number[];
}

/** What the model chose for one item. */
export interface MultipleChoiceAnswer {
  readonly index: number;
  readonly gold: number;
  /** Index of the likeliest candidate, by log-likelihood and by log-likelihood per character. */
  readonly choice: number;
  readonly choiceNorm: number;
  /** -ln p of the right continuation, in nats. */
  readonly goldNll: number;
}

export interface MultipleChoiceResult {
  readonly itemCount: number;
  /** Fraction of items whose likeliest candidate is right. */
  readonly acc: number;
  /** The same with log-likelihoods divided by the continuation's characters, as in lm-evaluation-harness. */
  readonly accNorm: number;
  /** Standard errors of the two means; NaN for a single item. */
  readonly accStderr: number;
  readonly accNormStderr: number;
  /** Mean over items of -ln p(right continuation), in nats. */
  readonly goldNll: number;
  /** By item, in the order of the task. */
  readonly answers: readonly MultipleChoiceAnswer[];
}

/**
 * Scores the items of a task, in order. To resume, pass the number of scores at hand as `start`.
 *
 * @throws OptionError for candidates that cannot be encoded, naming the item, or options out of range.
 */
export async function* scoreMultipleChoice(
  model: LanguageModel,
  items: Items<MultipleChoiceItem>,
  options: MultipleChoiceOptions,
): AsyncGenerator<MultipleChoiceScore> {
  const { start = 0, limit = Number.POSITIVE_INFINITY } = options;
  checkOptions(options);
  let index = -1;
  for await (const item of items) {
    index++;
    if (index >= limit) return;
    if (index < start) continue;
    options.signal?.throwIfAborted();
    const pairs = encodeItem(item, options);
    const logLikelihoods = await scorePairs(model, pairs);
    if (!logLikelihoods.every(Number.isFinite)) {
      throw new NumericalError(
        `${item.place}: the model's log-likelihoods are ${logLikelihoods.join(', ')}; check its weights, or run it in float32`,
      );
    }
    yield {
      index,
      gold: item.gold,
      logLikelihoods,
      characterCounts: item.candidates.map(({ continuation }) => Array.from(continuation).length),
      tokenCounts: pairs.map(({ continuation }) => continuation.length),
    };
    options.onProgress?.({
      stage: 'multiple-choice',
      done: index + 1,
      total: options.limit ?? index + 1,
      detail: item.place,
    });
  }
}

/** Sums up scores as lm-evaluation-harness does. @throws OptionError when there are none. */
export function summarizeMultipleChoice(scores: readonly MultipleChoiceScore[]): MultipleChoiceResult {
  if (scores.length === 0) throw new OptionError('the task has no items to sum up; check the file and the limit');
  const answers = scores.map(toAnswer);
  const right = answers.map(({ choice, gold }) => Number(choice === gold));
  const rightNorm = answers.map(({ choiceNorm, gold }) => Number(choiceNorm === gold));
  return {
    itemCount: scores.length,
    acc: mean(right),
    accNorm: mean(rightNorm),
    accStderr: standardError(right),
    accNormStderr: standardError(rightNorm),
    goldNll: mean(answers.map(({ goldNll }) => goldNll)),
    answers,
  };
}

function toAnswer({ index, gold, logLikelihoods, characterCounts }: MultipleChoiceScore): MultipleChoiceAnswer {
  return {
    index,
    gold,
    choice: indexOfLargest(logLikelihoods),
    choiceNorm: indexOfLargest(logLikelihoods.map((value, at) => value / characterCounts[at]!)),
    goldNll: -logLikelihoods[gold]!,
  };
}

function encodeItem(item: MultipleChoiceItem, options: MultipleChoiceOptions): EncodedPair[] {
  const { tokenizer, delimiter = ' ', addSpecialTokens = false, contextLength = Number.POSITIVE_INFINITY } = options;
  return item.candidates.map(({ context, continuation }) => {
    try {
      const pair = encodePair(tokenizer, { context, continuation: delimiter + continuation }, addSpecialTokens);
      return fitContext(pair, contextLength);
    } catch (cause) {
      if (cause instanceof OptionError) throw new OptionError(`${item.place}: ${cause.message}`, { cause });
      throw cause;
    }
  });
}

/** The model reads all tokens but the last, so one more than it can read may be scored. */
function fitContext({ context, continuation }: EncodedPair, contextLength: number): EncodedPair {
  const room = contextLength + 1 - continuation.length;
  if (room < 1) {
    throw new OptionError(
      `a continuation has ${continuation.length} tokens, and the model reads ${contextLength}; shorten it`,
    );
  }
  return { context: context.length > room ? context.slice(context.length - room) : context, continuation };
}

/** ln p of every continuation; candidates that share their context are scored together. */
async function scorePairs(model: LanguageModel, pairs: readonly EncodedPair[]): Promise<number[]> {
  const groups = new Map<string, number[]>();
  for (const [index, { context }] of pairs.entries()) {
    const key = context.join();
    groups.set(key, [...(groups.get(key) ?? []), index]);
  }
  const logLikelihoods = new Array<number>(pairs.length).fill(Number.NaN);
  for (const members of groups.values()) {
    const continuations = members.map((index) => pairs[index]!.continuation);
    const scores = await model.scoreContinuations(pairs[members[0]!]!.context, continuations);
    for (const [at, index] of members.entries()) {
      logLikelihoods[index] = -scores[at]!.reduce((sum, score) => sum + score, 0);
    }
  }
  return logLikelihoods;
}

function checkOptions(options: MultipleChoiceOptions): void {
  const least = { start: 0, limit: 1, contextLength: 1 } as const;
  for (const name of Object.keys(least) as (keyof typeof least)[]) {
    const value = options[name];
    if (value !== undefined && (!Number.isInteger(value) || value < least[name])) {
      throw new OptionError(`${name} is ${value}, expected an integer of at least ${least[name]}`);
    }
  }
}

function indexOfLargest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Sample standard deviation over the root of the count. */
function standardError(values: readonly number[]): number {
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}
