import { createRandom } from '../linalg/random.js';

export interface BootstrapOptions {
  /** Draws with replacement, at least 1. */
  readonly resampleCount: number;
  readonly seed: number;
}

/**
 * Means of resampled items (bootstrap). All columns share their draws.
 *
 * @param columns Values by item; all of one length, at least 1.
 * @returns For every column its means, ascending.
 */
export function bootstrapMeans(
  columns: readonly Float64Array[],
  { resampleCount, seed }: BootstrapOptions,
): Float64Array[] {
  const itemCount = columns[0]?.length ?? 0;
  const random = createRandom(seed);
  const means = columns.map(() => new Float64Array(resampleCount));
  const drawn = new Uint32Array(itemCount);
  for (let resample = 0; resample < resampleCount; resample++) {
    for (let at = 0; at < itemCount; at++) drawn[at] = Math.floor(random() * itemCount);
    for (const [column, values] of columns.entries()) {
      let sum = 0;
      for (const item of drawn) sum += values[item]!;
      means[column]![resample] = sum / itemCount;
    }
  }
  return means.map((values) => values.sort());
}

/** Percentile interval of ascending values. */
export function percentileInterval(sorted: Float64Array, confidence: number): readonly [low: number, high: number] {
  const at = (fraction: number) => sorted[Math.round(fraction * (sorted.length - 1))]!;
  return [at((1 - confidence) / 2), at((1 + confidence) / 2)];
}

/** Two-sided p of a mean of 0: twice the fraction of resampled means on the rarer side; bounded below by the number of draws. */
export function bootstrapTest(sorted: Float64Array): number {
  const below = sorted.filter((value) => value <= 0).length;
  const above = sorted.filter((value) => value >= 0).length;
  return Math.min(1, (2 * (Math.min(below, above) + 1)) / (sorted.length + 1));
}
