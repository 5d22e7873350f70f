/** A sum over some tokens of a window: of -ln p, say. */
export interface WindowSum {
  readonly sum: number;
  readonly tokenCount: number;
}

/** From low to high. */
export type Interval = readonly [low: number, high: number];

/** Fewer windows or items tell nothing of how far they scatter. */
const LEAST_COUNT = 3;

/** Two-sided 95 % point of the normal distribution. */
const NORMAL_POINT = 1.959964;

/**
 * 95 % interval of a mean over tokens, where tokens come in windows and only windows are independent.
 * @returns undefined for fewer than three windows.
 * @see Cochran, Sampling Techniques, 6.3 (ratio estimate)
 */
export function intervalOfMean(windows: readonly WindowSum[]): Interval | undefined {
  const count = windows.length;
  if (count < LEAST_COUNT) return undefined;
  const tokenCount = windows.reduce((all, window) => all + window.tokenCount, 0);
  const mean = windows.reduce((all, { sum }) => all + sum, 0) / tokenCount;
  const squares = windows.reduce((all, window) => all + (window.sum - mean * window.tokenCount) ** 2, 0);
  const halfWidth = (studentPoint(count - 1) * Math.sqrt((squares * count) / (count - 1))) / tokenCount;
  return [mean - halfWidth, mean + halfWidth];
}

/** The same for the mean of `b - a`, window by window or item by item. @throws RangeError when they are not as many. */
export function intervalOfDifference(a: readonly WindowSum[], b: readonly WindowSum[]): Interval | undefined {
  if (a.length !== b.length) throw new RangeError(`${a.length} windows beside ${b.length}; expected as many`);
  return intervalOfMean(b.map(({ sum, tokenCount }, at) => ({ sum: sum - a[at]!.sum, tokenCount })));
}

/** Two-sided 95 % point of Student's t; within 2 % from three degrees of freedom on. @see Abramowitz and Stegun, 26.7.5 */
function studentPoint(degrees: number): number {
  const z = NORMAL_POINT;
  return (
    z +
    (z ** 3 + z) / (4 * degrees) +
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2) +
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3)
  );
}
