import { counted } from '../counted.js';
import { OptionError } from '../errors.js';
import { COMPARISON } from '../options/comparison.js';
import { checkOptions, defaultsOf } from '../options/option.js';
import { differences, type Interval, testMean } from './change-interval.js';
import { type ComparisonOptions, isRounding, type Verdict } from './compare-results.js';
import type { PerplexityProtocol, WindowLoss } from './perplexity.js';

/** A perplexity by window with its protocol, such as a `PerplexityResult`. */
export interface ComparablePerplexity {
  readonly windows: readonly WindowLoss[];
  /** Fields that are absent are not compared. */
  readonly protocol: Pick<PerplexityProtocol, 'windowLength' | 'stride'> &
    Partial<Pick<PerplexityProtocol, 'textSha256' | 'tokensSha256' | 'leadingTokens'>>;
}

/** Two models compared on one text. */
export interface PerplexityComparison {
  readonly windowCount: number;
  /** Tokens scored. */
  readonly tokenCount: number;
  readonly confidence: number;
  /** Logarithms of the perplexities: mean -ln p per token, in nats; higher is worse. */
  readonly logPerplexity: LogPerplexityDifference;
  /** Verdict about B; absent for fewer than three windows, whose variance is unknown. */
  readonly verdict?: Verdict;
}

/** Two means over the same windows. */
export interface LogPerplexityDifference {
  readonly a: number;
  readonly b: number;
  /** b - a. */
  readonly difference: number;
  /** Paired t-interval of the difference over windows; absent for fewer than three. */
  readonly interval?: Interval;
  /** Two-sided p that the difference is 0, of the paired t-test; absent for fewer than three windows. */
  readonly pValue?: number;
}

/**
 * Compares two models' perplexities on the same windows of a text, window by window.
 *
 * @throws OptionError for perplexities on other texts or windows, naming the difference, or options out of range.
 */
export function comparePerplexities(
  a: ComparablePerplexity,
  b: ComparablePerplexity,
  options: Pick<ComparisonOptions, 'confidence'> = {},
): PerplexityComparison {
  const { confidence } = { ...defaultsOf(COMPARISON), ...checkOptions(options, COMPARISON) };
  checkSameWindows(a, b);
  const tokenCount = a.windows.reduce((sum, window) => sum + window.tokenCount, 0);
  const [own, other] = [sumsOf(a), sumsOf(b)];
  const meanOf = (windows: typeof own) => windows.reduce((all, { sum }) => all + sum, 0) / tokenCount;
  const means = { a: meanOf(own), b: meanOf(other), difference: meanOf(other) - meanOf(own) };
  const test = testMean(differences(own, other), confidence);
  const found = { windowCount: a.windows.length, tokenCount, confidence, logPerplexity: { ...means, ...test } };
  if (test === undefined) return found;
  const isSame = test.pValue > 1 - confidence || isRounding(means);
  return { ...found, verdict: isSame ? 'same' : means.difference > 0 ? 'worse' : 'better' };
}

const sumsOf = ({ windows }: ComparablePerplexity) => windows.map(({ nll, tokenCount }) => ({ sum: nll, tokenCount }));

/** Conditions in which two perplexities can differ; messages name the first difference, since later ones follow from it. */
const CONDITIONS: readonly {
  readonly name: string;
  readonly read: (measured: ComparablePerplexity) => string | number | boolean | undefined;
}[] = [
  { name: 'textSha256', read: ({ protocol }) => protocol.textSha256 },
  { name: 'windowLength', read: ({ protocol }) => protocol.windowLength },
  { name: 'stride', read: ({ protocol }) => protocol.stride },
  { name: 'bos', read: ({ protocol, windows }) => windows[0]?.tokenCount === protocol.windowLength },
  { name: 'windowCount', read: ({ windows }) => windows.length },
  { name: 'leadingTokens', read: ({ protocol }) => protocol.leadingTokens?.join() },
  { name: 'tokensSha256', read: ({ protocol }) => protocol.tokensSha256 },
  { name: 'tokens scored by window', read: ({ windows }) => windows.map(({ tokenCount }) => tokenCount).join(' ') },
];

/** @throws OptionError */
function checkSameWindows(a: ComparablePerplexity, b: ComparablePerplexity): void {
  for (const { name, read } of CONDITIONS) {
    const [own, other] = [read(a), read(b)];
    if (own === other || own === undefined || other === undefined) continue;
    throw new OptionError(
      `the perplexities were measured differently: ${name} is ${show(own)} in A and ${show(other)} in B; ` +
        'measure both on the same text, windows and tokenizer',
    );
  }
  if (a.windows.length === 0) throw new OptionError('the perplexities have no windows; measure them again');
}

const show = (value: string | number | boolean): string => {
  const text = String(value);
  return text.length > 24 ? `${text.slice(0, 12)}...` : text;
};

/** A comparison as a sentence, such as `B is worse: its perplexity is 12.4 % higher (95 % interval 10.5 to 13.9 %).` */
export function explainPerplexities(comparison: PerplexityComparison): string {
  const { windowCount, confidence, verdict, logPerplexity } = comparison;
  const { difference, interval, pValue } = logPerplexity;
  const windows = counted(windowCount, 'window');
  if (verdict === undefined || interval === undefined || pValue === undefined) {
    return `${windows} cannot show whether a difference is noise: use shorter windows or more text, 3 windows at least.`;
  }
  const percent = (change: number) => (100 * Math.expm1(change)).toFixed(1);
  const level = `${Number((100 * confidence).toFixed(1))} % interval`;
  if (verdict === 'same') {
    const range = interval.map(percent).join(' to ');
    return `No difference beyond ${pValue > 1 - confidence ? 'noise' : 'rounding'} on ${windows}: perplexity changes by ${range} % (${level}).`;
  }
  const sign = Math.sign(difference);
  const sizes = interval.map((end) => sign * Number(percent(end))).sort((x, y) => x - y);
  const size = Math.abs(Number(percent(difference))).toFixed(1);
  const range = sizes.map((end) => end.toFixed(1)).join(' to ');
  return `B is ${verdict}: its perplexity is ${size} % ${sign > 0 ? 'higher' : 'lower'} (${level} ${range} %).`;
}
