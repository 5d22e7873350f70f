import { squaredRowNorms } from '../linalg/matrix-block.js';
import { multiplyTransposed } from '../linalg/multiply-transposed.js';
import { assignWithCapacities } from './assign-with-capacities.js';

/** Assigns points to contexts by the current centres. */
export type ContextAssignment = (centers: Float64Array) => Int32Array;

export interface Refinement {
  /** `[pointCount, dimensionCount]`, row-major. */
  readonly points: Float64Array;
  /** Initial centres, `[contextCount, dimensionCount]`, row-major. */
  readonly centers: Float64Array;
  readonly assign: ContextAssignment;
}

export interface RefinedCenters {
  readonly centers: Float64Array;
  /** Context of every point under these centres. */
  readonly contextOf: Int32Array;
}

const ITERATION_LIMIT = 100;
/** Refinement ends when at most this fraction of the points changes its context. */
const CONVERGED = 1e-3;

/** Lloyd's iterations: assign all points, move each centre to the mean of its points, until the contexts hardly change. */
export function refineCenters({ points, centers: start, assign }: Refinement): RefinedCenters {
  let centers = start;
  let contextOf = assign(centers);
  for (let iteration = 0; iteration < ITERATION_LIMIT; iteration++) {
    centers = meansOf(points, contextOf, centers);
    const next = assign(centers);
    let moved = 0;
    for (let point = 0; point < next.length; point++) if (next[point] !== contextOf[point]) moved++;
    contextOf = next;
    if (moved <= CONVERGED * next.length) break;
  }
  return { centers, contextOf };
}

/** The nearest centre of every point. */
export function nearestContexts(points: Float64Array, dimensionCount: number): ContextAssignment {
  const distancesTo = squaredDistances(points, dimensionCount);
  return (centers) => {
    const distances = distancesTo(centers);
    const contextCount = centers.length / dimensionCount;
    const nearest = new Int32Array(points.length / dimensionCount);
    for (let point = 0; point < nearest.length; point++) {
      const at = point * contextCount;
      let best = 0;
      for (let context = 1; context < contextCount; context++) {
        if (distances[at + context]! < distances[at + best]!) best = context;
      }
      nearest[point] = best;
    }
    return nearest;
  };
}

/** Assigns points at the least sum of squared distances, with context sizes within `points / contextCount * (1 +- clusterBalance)`. */
export function balancedContexts(
  points: Float64Array,
  {
    dimensionCount,
    contextCount,
    clusterBalance,
  }: {
    readonly dimensionCount: number;
    readonly contextCount: number;
    readonly clusterBalance: number;
  },
): ContextAssignment {
  const distancesTo = squaredDistances(points, dimensionCount);
  const even = points.length / dimensionCount / contextCount;
  const minimum = new Array<number>(contextCount).fill(Math.floor(even * Math.max(0, 1 - clusterBalance)));
  const maximum = new Array<number>(contextCount).fill(Math.ceil(even * (1 + clusterBalance)));
  return (centers) => assignWithCapacities(distancesTo(centers), contextCount, { minimum, maximum });
}

/**
 * Finds the nearest centre of every point; of equally near ones the first.
 *
 * @param points `[pointCount, dimensionCount]`, row-major.
 * @param centers `[contextCount, dimensionCount]`, row-major.
 */
export function assignContexts(points: Float64Array, centers: Float64Array, dimensionCount: number): Int32Array {
  return nearestContexts(points, dimensionCount)(centers);
}

/** Sum over some points of the squared distance to the nearest centre. */
export function sumOfSquares(points: Float64Array, centers: Float64Array, dimensionCount: number): number {
  const distances = squaredDistances(points, dimensionCount)(centers);
  const contextCount = centers.length / dimensionCount;
  return assignContexts(points, centers, dimensionCount).reduce(
    (sum, context, point) => sum + distances[point * contextCount + context]!,
    0,
  );
}

/** Squared distances `[pointCount, contextCount]`, row-major: `|x|^2 - 2 x c + |c|^2` by a matrix product is faster than differences. */
export function squaredDistances(
  points: Float64Array,
  dimensionCount: number,
): (centers: Float64Array) => Float64Array {
  const ofPoints = squaredRowNorms(points, dimensionCount);
  return (centers) => {
    const [rows, columns] = [ofPoints.length, centers.length / dimensionCount];
    const distances = multiplyTransposed(points, centers, { rows, columns, inner: dimensionCount });
    const ofCenters = squaredRowNorms(centers, dimensionCount);
    for (let point = 0, at = 0; point < rows; point++) {
      for (let center = 0; center < columns; center++, at++) {
        // Rounding may make the squared distance of a point at a centre slightly negative.
        distances[at] = Math.max(0, ofPoints[point]! - 2 * distances[at]! + ofCenters[center]!);
      }
    }
    return distances;
  };
}

/** Means of the points of each context; a centre without points is kept. */
function meansOf(points: Float64Array, contextOf: Int32Array, previous: Float64Array): Float64Array {
  const dimensionCount = points.length / contextOf.length;
  const contextCount = previous.length / dimensionCount;
  const means = new Float64Array(previous.length);
  const counts = new Float64Array(contextCount);
  for (let point = 0; point < contextOf.length; point++) {
    const context = contextOf[point]!;
    counts[context]!++;
    for (let i = 0; i < dimensionCount; i++)
      means[context * dimensionCount + i]! += points[point * dimensionCount + i]!;
  }
  return means.map((sum, at) => {
    const count = counts[Math.floor(at / dimensionCount)]!;
    return count === 0 ? previous[at]! : sum / count;
  });
}
