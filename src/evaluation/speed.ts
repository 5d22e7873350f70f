import { sum } from '../linalg/sum.js';
import { bootstrapMeans, percentileInterval } from './bootstrap.js';

/** Repeated measurements of one quantity. */
export interface Spread {
  readonly median: number;
  /** Quartiles: half of the values are between them. */
  readonly low: number;
  readonly high: number;
  readonly values: readonly number[];
}

/** Median and quartiles. @param values At least one. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), low: quantile(sorted, 0.25), high: quantile(sorted, 0.75), values };
}

/** Interpolates linearly. */
function quantile(sorted: readonly number[], fraction: number): number {
  const at = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(at)]!;
  return below + (at - Math.floor(at)) * (sorted[Math.ceil(at)]! - below);
}

/** `same`: no difference beyond the noise of this run. */
export type SpeedVerdict = 'faster' | 'slower' | 'same';

/** Ratio of two models' speeds, over rounds that measured both. */
export interface Speedup {
  /** Geometric mean of the ratios of all rounds; above 1 is faster. */
  readonly ratio: number;
  /** 95 % bootstrap interval of it over the rounds. */
  readonly interval: readonly [low: number, high: number];
  readonly verdict: SpeedVerdict;
}

const CONFIDENCE = 0.95;
const RESAMPLE_COUNT = 2000;

/** Ratios nearer to 1 count as equal, even if significant. */
const MIN_GAIN = 1.01;

/**
 * Compares speeds round by round: disturbances of the machine affect both models of a round.
 * @param own Speeds by round, at least one.
 * @param reference Speeds of another model in the same rounds.
 */
export function compareSpeeds(own: readonly number[], reference: readonly number[]): Speedup {
  const logs = Float64Array.from(own, (speed, round) => Math.log(speed / reference[round]!));
  const [means] = bootstrapMeans([logs], { resampleCount: RESAMPLE_COUNT, seed: 0 });
  const [low, high] = percentileInterval(means!, CONFIDENCE).map(Math.exp) as [number, number];
  const ratio = Math.exp(sum(logs) / logs.length);
  const isSignificant = (gain: number, end: number) => gain > MIN_GAIN && end > 1;
  const slower = isSignificant(1 / ratio, 1 / high) ? 'slower' : 'same';
  return { ratio, interval: [low, high], verdict: isSignificant(ratio, low) ? 'faster' : slower };
}
