import { OptionError } from '../errors.js';
import { COMPARISON } from '../options/comparison.js';
import { checkOptions, defaultsOf } from '../options/option.js';
import { bootstrapMeans, bootstrapTest, percentileInterval } from './bootstrap.js';
import { type DiscordantCounts, mcNemarTest } from './mcnemar.js';
import type { TaskKind } from './task-items.js';
import type { CommonAnswer, TaskResult } from './task-result.js';

export interface ComparisonOptions {
  /** Confidence of the interval and of the verdict, in (0, 1). Default 0.95. */
  readonly confidence?: number | undefined;
  /** Bootstrap draws, at least 100. Default 10000. */
  readonly resampleCount?: number | undefined;
  /** Seed of the bootstrap. Default 0. */
  readonly seed?: number | undefined;
}

/** Two means over the same items. */
export interface PairedDifference {
  readonly a: number;
  readonly b: number;
  /** b - a. */
  readonly difference: number;
  /** Bootstrap interval of the difference. */
  readonly interval: readonly [low: number, high: number];
  /** Two-sided p that the difference is 0: McNemar's test for accuracies, the bootstrap for likelihoods. */
  readonly pValue: number;
}

/** Two accuracies over the same items; fractions. */
export type AccuracyDifference = PairedDifference & DiscordantCounts;

/** `same`: no difference beyond noise. `worse`, `better`: verdict about B. */
export type Verdict = 'same' | 'worse' | 'better';

export interface TaskComparison {
  /** Items that both results have. */
  readonly itemCount: number;
  readonly confidence: number;
  readonly acc: AccuracyDifference;
  readonly accNorm?: AccuracyDifference;
  /** -ln p of the right answer, in nats; higher is worse. */
  readonly goldNll: PairedDifference;
  readonly verdict: Verdict;
  /** Measures that differ beyond noise, in order of precedence: the first one decides. */
  readonly deciding: readonly ComparedMeasure[];
}

export type ComparedMeasure = 'accNorm' | 'acc' | 'goldNll';

/** Changes of the mean below this fraction are attributed to rounding (half precision: 1e-4), even if significant. */
const NEGLIGIBLE_NLL = 1e-3;

/**
 * Compares two models' results on the same items, item by item, which detects far smaller differences than two separate
 * standard errors. Several measures are tested, so that levels are corrected (Holm-Bonferroni).
 *
 * @throws OptionError for results of different tasks, or options out of range.
 */
export function compareResults(a: TaskResult, b: TaskResult, options: ComparisonOptions = {}): TaskComparison {
  const { confidence, resampleCount, seed } = { ...defaultsOf(COMPARISON), ...checkOptions(options, COMPARISON) };
  const pairs = pairAnswers(a, b);
  const measures = MEASURES.filter(({ kinds }) => kinds.includes(a.kind));
  const values = measures.map(({ pick }) => pairs.map((pair) => [pick(pair.a), pick(pair.b)] as const));
  const columns = values.map((column) => Float64Array.from(column, ([own, other]) => other - own));
  const means = bootstrapMeans(columns, { resampleCount, seed });
  const measured: Measured[] = measures.map(({ name, lowerIsBetter, describe }, at) => {
    const difference = describe(values[at]!, means[at]!, confidence);
    return { name, difference, isWorse: lowerIsBetter === difference.difference > 0 };
  });
  const deciding = findBeyondNoise(measured, 1 - confidence);
  const byName = Object.fromEntries(measured.map(({ name, difference }) => [name, difference]));
  return {
    itemCount: pairs.length,
    confidence,
    ...(byName as Pick<TaskComparison, ComparedMeasure>),
    verdict: deciding[0] === undefined ? 'same' : deciding[0].isWorse ? 'worse' : 'better',
    deciding: deciding.map(({ name }) => name),
  };
}

interface AnswerPair {
  readonly a: CommonAnswer;
  readonly b: CommonAnswer;
}

/** Values of A and B on one item. */
type ValuePair = readonly [a: number, b: number];

interface Measured {
  readonly name: ComparedMeasure;
  readonly difference: PairedDifference;
  readonly isWorse: boolean;
}

interface Measure {
  readonly name: ComparedMeasure;
  readonly kinds: readonly TaskKind[];
  readonly lowerIsBetter: boolean;
  readonly pick: (answer: CommonAnswer) => number;
  readonly describe: (values: readonly ValuePair[], means: Float64Array, confidence: number) => PairedDifference;
}

/** In order of precedence: the usually published figure first. */
const MEASURES: readonly Measure[] = [
  {
    name: 'accNorm',
    kinds: ['multiple-choice'],
    lowerIsBetter: false,
    pick: ({ choiceNorm, gold }) => Number(choiceNorm === gold),
    describe: describeAccuracy,
  },
  {
    name: 'acc',
    kinds: ['multiple-choice', 'last-word'],
    lowerIsBetter: false,
    pick: ({ isRight }) => Number(isRight),
    describe: describeAccuracy,
  },
  {
    name: 'goldNll',
    kinds: ['multiple-choice', 'last-word'],
    lowerIsBetter: true,
    pick: ({ goldNll }) => goldNll,
    describe: describeMeans,
  },
];

function describeAccuracy(values: readonly ValuePair[], means: Float64Array, confidence: number): AccuracyDifference {
  const onlyA = values.filter(([a, b]) => a > b).length;
  const onlyB = values.filter(([a, b]) => b > a).length;
  return { ...describeMeans(values, means, confidence), pValue: mcNemarTest({ onlyA, onlyB }), onlyA, onlyB };
}

function describeMeans(values: readonly ValuePair[], means: Float64Array, confidence: number): PairedDifference {
  const meanOf = (side: 0 | 1) => values.reduce((sum, pair) => sum + pair[side], 0) / values.length;
  const [a, b] = [meanOf(0), meanOf(1)];
  const interval = percentileInterval(means, confidence);
  return { a, b, difference: b - a, interval, pValue: bootstrapTest(means) };
}

/** Measures whose difference is significant at `level` after correction for multiple tests (Holm-Bonferroni). */
function findBeyondNoise(measured: readonly Measured[], level: number): Measured[] {
  const ascending = [...measured].sort((x, y) => x.difference.pValue - y.difference.pValue);
  const firstInsignificant = ascending.findIndex(
    ({ difference }, rank) => difference.pValue > level / (ascending.length - rank),
  );
  const significant = new Set(firstInsignificant < 0 ? ascending : ascending.slice(0, firstInsignificant));
  const isBeyondRounding = ({ name, difference }: Measured) => name !== 'goldNll' || !isRounding(difference);
  return measured.filter((one) => significant.has(one) && isBeyondRounding(one));
}

/** Whether a change of a mean -ln p is so small that rounding explains it. */
export function isRounding({ a, difference }: Pick<PairedDifference, 'a' | 'difference'>): boolean {
  return Math.abs(difference) <= NEGLIGIBLE_NLL * Math.abs(a);
}

/** Pairs the answers to items that both results have. @throws OptionError when they are not of one task. */
function pairAnswers(a: TaskResult, b: TaskResult): AnswerPair[] {
  if (a.kind !== b.kind) throw new OptionError(`A is a ${a.kind} result and B a ${b.kind} one; compare the same task`);
  const others = new Map<number, CommonAnswer>(b.answers.map((answer) => [answer.index, answer]));
  const pairs = a.answers.flatMap((own: CommonAnswer): AnswerPair[] => {
    const other = others.get(own.index);
    if (other !== undefined && other.gold !== own.gold) {
      throw new OptionError(
        `item ${own.index} has gold ${own.gold} in A and ${other.gold} in B; compare results of the same task file`,
      );
    }
    return other === undefined ? [] : [{ a: own, b: other }];
  });
  if (pairs.length === 0)
    throw new OptionError('the two results have no item in common; measure them on the same items');
  return pairs;
}
