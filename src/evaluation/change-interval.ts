import { studentPoint, studentProbability } from './student-t.js';

/** A sum over tokens of a window, such as of -ln p. */
export interface WindowSum {
  readonly sum: number;
  readonly tokenCount: number;
}

/** From low to high. */
export type Interval = readonly [low: number, high: number];

/** Fewest windows or items that give a variance. */
const MIN_COUNT = 3;

const CONFIDENCE = 0.95;

/** Result of a test that a mean is 0. */
export interface MeanTest {
  readonly interval: Interval;
  /** Two-sided p of a mean of 0. */
  readonly pValue: number;
}

/**
 * Interval and t-test of a mean over tokens, where tokens come in windows and only windows are independent.
 * @param confidence Of the interval, in (0, 1).
 * @returns undefined for fewer than three windows.
 * @see Cochran, Sampling Techniques, 6.3 (ratio estimate)
 */
export function testMean(windows: readonly WindowSum[], confidence: number = CONFIDENCE): MeanTest | undefined {
  const count = windows.length;
  if (count < MIN_COUNT) return undefined;
  const tokenCount = windows.reduce((all, window) => all + window.tokenCount, 0);
  const mean = windows.reduce((all, { sum }) => all + sum, 0) / tokenCount;
  const squares = windows.reduce((all, window) => all + (window.sum - mean * window.tokenCount) ** 2, 0);
  const standardError = Math.sqrt((squares * count) / (count - 1)) / tokenCount;
  const halfWidth = studentPoint(confidence, count - 1) * standardError;
  const pValue = mean === 0 ? 1 : 1 - studentProbability(Math.abs(mean) / standardError, count - 1);
  return { interval: [mean - halfWidth, mean + halfWidth], pValue };
}

/** 95 % interval of a mean over tokens. @returns undefined for fewer than three windows. */
export function intervalOfMean(windows: readonly WindowSum[]): Interval | undefined {
  return testMean(windows)?.interval;
}

/** Interval for the mean of `b - a`, by window or item. @throws RangeError when the lengths differ. */
export function intervalOfDifference(a: readonly WindowSum[], b: readonly WindowSum[]): Interval | undefined {
  return intervalOfMean(differences(a, b));
}

/** `b - a`, window by window or item by item. @throws RangeError when the lengths differ. */
export function differences(a: readonly WindowSum[], b: readonly WindowSum[]): WindowSum[] {
  if (a.length !== b.length)
    throw new RangeError(`${a.length} windows compared with ${b.length}; expected the same number`);
  return b.map(({ sum, tokenCount }, at) => ({ sum: sum - a[at]!.sum, tokenCount }));
}
