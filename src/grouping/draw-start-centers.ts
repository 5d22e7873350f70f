import { pickRows } from '../linalg/matrix-block.js';
import type { Random } from '../linalg/random.js';
import { sum } from '../linalg/sum.js';
import { squaredDistances } from './refine-centers.js';

export interface StartRequest {
  /** `[pointCount, dimensionCount]`, row-major. */
  readonly points: Float64Array;
  readonly dimensionCount: number;
  /** K, at most the number of points. */
  readonly contextCount: number;
  readonly random: Random;
}

/**
 * Initial centres by k-means++: points are drawn with probability proportional to their squared distance from earlier
 * ones, the best of several draws each time.
 *
 * Draws use exponential keys: the point with the smallest `-ln(u_i) / weight_i` is drawn with probability proportional
 * to its weight. Each u_i belongs to a point, so that slightly moved points (a float16 model) give the same centres
 * except for near ties, unlike inverse transform sampling.
 *
 * @returns `[contextCount, dimensionCount]`, row-major.
 * @see Arthur & Vassilvitskii, SODA 2007 (k-means++); Efraimidis & Spirakis, 2006 (exponential keys)
 */
export function drawStartCenters({ points, dimensionCount, contextCount, random }: StartRequest): Float64Array {
  const pointCount = points.length / dimensionCount;
  const distancesTo = squaredDistances(points, dimensionCount);
  const trialCount = 2 + Math.floor(Math.log(contextCount));
  const centers = new Float64Array(contextCount * dimensionCount);
  /** Squared distance from the nearest centre; equal for all points while there is no centre. */
  let nearest = new Float64Array(pointCount).fill(Number.POSITIVE_INFINITY);
  for (let context = 0; context < contextCount; context++) {
    const weights = context === 0 ? nearest.map(() => 1) : nearest;
    const candidates = pickRows(points, dimensionCount, smallestKeys(weights, random, trialCount));
    const distances = distancesTo(candidates);
    const count = candidates.length / dimensionCount;
    const outcomes = Array.from({ length: count }, (_, at) =>
      nearest.map((before, point) => Math.min(before, distances[point * count + at]!)),
    );
    const sums = outcomes.map(sum);
    const best = sums.indexOf(Math.min(...sums));
    nearest = outcomes[best]!;
    centers.set(candidates.subarray(best * dimensionCount, (best + 1) * dimensionCount), context * dimensionCount);
  }
  return centers;
}

/** Indices of the smallest exponential keys, see `drawStartCenters`; ties go to the lower index. */
function smallestKeys(weights: Float64Array, random: Random, count: number): Int32Array {
  const arrivals = weights.map((weight) => {
    const wait = -Math.log(1 - random());
    return weight > 0 ? wait / weight : Number.POSITIVE_INFINITY;
  });
  return Int32Array.from(arrivals.keys())
    .sort((a, b) => compare(arrivals[a]!, arrivals[b]!) || a - b)
    .slice(0, count);
}

/** Compares without subtraction, which gives NaN for infinities. */
const compare = (a: number, b: number): number => (a < b ? -1 : a > b ? 1 : 0);
