import { squaredRowNorms } from '../linalg/matrix-block.js';
import { multiplyTransposed } from '../linalg/multiply-transposed.js';
import { assignWithCapacities } from './assign-with-capacities.js';

/** Gives every point a context, from the centres as they are. */
export type ContextAssignment = (points: Float64Array, centers: Float64Array) => Int32Array;

export interface Refinement {
  /** `[pointCount, dimensionCount]`, row-major. */
  readonly points: Float64Array;
  /** Where to begin, `[contextCount, dimensionCount]`, row-major. */
  readonly centers: Float64Array;
  readonly assign: ContextAssignment;
}

export interface RefinedCenters {
  readonly centers: Float64Array;
  /** Context of every point under these centres. */
  readonly contextOf: Int32Array;
}

const ITERATION_LIMIT = 100;
/** Refining ends when no more than this part of the points changes its context. */
const SETTLED = 1e-3;

/** Lloyd's iterations: assign all points, move each centre to the mean of its points, until the contexts have settled. */
export function refineCenters({ points, centers: start, assign }: Refinement): RefinedCenters {
  let centers = start;
  let contextOf = assign(points, centers);
  for (let iteration = 0; iteration < ITERATION_LIMIT; iteration++) {
    centers = meansOf(points, contextOf, centers);
    const next = assign(points, centers);
    let moved = 0;
    for (let point = 0; point < next.length; point++) if (next[point] !== contextOf[point]) moved++;
    contextOf = next;
    if (moved <= SETTLED * next.length) break;
  }
  return { centers, contextOf };
}

/** The nearest centre of every point. */
export function nearestContexts(dimensionCount: number): ContextAssignment {
  return (points, centers) => assignContexts(points, centers, dimensionCount);
}

/** Near centres with sizes within `points / contextCount * (1 +- clusterBalance)`, at the least sum of squared distances. */
export function balancedContexts({
  dimensionCount,
  contextCount,
  clusterBalance,
}: {
  readonly dimensionCount: number;
  readonly contextCount: number;
  readonly clusterBalance: number;
}): ContextAssignment {
  return (points, centers) => {
    const even = points.length / dimensionCount / contextCount;
    const minimum = new Array<number>(contextCount).fill(Math.floor(even * Math.max(0, 1 - clusterBalance)));
    const maximum = new Array<number>(contextCount).fill(Math.ceil(even * (1 + clusterBalance)));
    return assignWithCapacities(squaredDistances(points, centers, dimensionCount), contextCount, { minimum, maximum });
  };
}

/**
 * Finds the nearest centre of every point; of equally near ones the first.
 *
 * @param points `[pointCount, dimensionCount]`, row-major.
 * @param centers `[contextCount, dimensionCount]`, row-major.
 */
export function assignContexts(points: Float64Array, centers: Float64Array, dimensionCount: number): Int32Array {
  const distances = squaredDistances(points, centers, dimensionCount);
  const contextCount = centers.length / dimensionCount;
  const nearest = new Int32Array(points.length / dimensionCount);
  for (let point = 0; point < nearest.length; point++) {
    const at = point * contextCount;
    for (let context = 1; context < contextCount; context++) {
      if (distances[at + context]! < distances[at + nearest[point]!]!) nearest[point] = context;
    }
  }
  return nearest;
}

/** `|x|^2 - 2 x c + |c|^2`, which is a matrix product: several times as fast as differences. `[pointCount, contextCount]`, row-major. */
function squaredDistances(points: Float64Array, centers: Float64Array, dimensionCount: number): Float64Array {
  const rows = points.length / dimensionCount;
  const columns = centers.length / dimensionCount;
  const distances = multiplyTransposed(points, centers, { rows, columns, inner: dimensionCount });
  const [ofPoints, ofCenters] = [squaredRowNorms(points, dimensionCount), squaredRowNorms(centers, dimensionCount)];
  for (let point = 0, at = 0; point < rows; point++) {
    for (let center = 0; center < columns; center++, at++) {
      // Rounding may leave a point that is a centre a little less than nothing away.
      distances[at] = Math.max(0, ofPoints[point]! - 2 * distances[at]! + ofCenters[center]!);
    }
  }
  return distances;
}

/** A centre without points stays where it was. */
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
