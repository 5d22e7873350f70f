import { kmeans } from 'ml-kmeans';
import { NumericalError, OptionError } from '../errors.js';
import { createRandom, drawPermutation } from '../linalg/random.js';
import { assignWithCapacities } from './assign-with-capacities.js';

export interface ClusteringInput {
  /** Tokens in PCA space, `[tokenCount, dimensionCount]` row-major. */
  readonly points: Float64Array;
  readonly dimensionCount: number;
  /** K, at least 1. Default 7. */
  readonly contextCount?: number;
  /**
   * Sizes of the fitted clusters stay within `tokens / K * (1 +- clusterBalance)`; at least 0. Infinity = plain k-means.
   * Default 0.4, as in FANG's published code.
   */
  readonly clusterBalance?: number;
  /** Centres are fitted on at most this many tokens, drawn by seed. Default 8192. */
  readonly fitCount?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Centres known already, `[contextCount, dimensionCount]` row-major: nothing is fitted, every token goes to its nearest. */
  readonly centers?: Float64Array | undefined;
}

/** Contexts of one block: clusters of calibration tokens. */
export interface Contexts {
  /** May be below the number asked for; `remarks` then say why. */
  readonly contextCount: number;
  readonly dimensionCount: number;
  /** `[contextCount, dimensionCount]`, row-major. */
  readonly centers: Float64Array;
  /** Context of every token: as fitted with size bounds, else its nearest centre. */
  readonly contextOfToken: Int32Array;
  /** Tokens of each context, at least 1. */
  readonly counts: Int32Array;
  readonly remarks: readonly string[];
}

const ITERATION_LIMIT = 100;
/** Balanced refinement starts from a converged plain fit and settles quickly. */
const BALANCED_ITERATION_LIMIT = 30;

/**
 * Clusters tokens into contexts: k-means with k-means++ start on a bounded sample, then, unless `clusterBalance` is
 * infinite, with bounds on the cluster sizes. Tokens of a bounded fit stay where it put them, all others go to their
 * nearest centre. Contexts that end up empty (tokens that coincide) are dropped with a remark.
 *
 * @throws OptionError when there are fewer tokens than contexts or an option is out of range; NumericalError when a point
 *   is not finite.
 * @see FANG (arXiv 2512.23014), section 3.2
 */
export function clusterContexts(input: ClusteringInput): Contexts {
  const { points, dimensionCount, contextCount = 7, clusterBalance = 0.4, fitCount = 8192, seed = 0 } = input;
  const tokenCount = points.length / dimensionCount;
  checkInput({ points, dimensionCount, contextCount, clusterBalance, fitCount });
  if (input.centers !== undefined) {
    if (input.centers.length !== contextCount * dimensionCount)
      throw new OptionError(
        `${input.centers.length} numbers are not ${contextCount} centres of ${dimensionCount} each`,
      );
    return withoutEmpty(input.centers, assignContexts(points, input.centers, dimensionCount), dimensionCount);
  }
  const drawn = drawPermutation(createRandom(seed), tokenCount).subarray(0, fitCount).sort();
  const sample = Array.from(drawn, (token) => Array.from(rowOf(points, token, dimensionCount)));
  const plain = kmeans(sample, contextCount, {
    initialization: 'kmeans++',
    seed: seedOf(seed),
    maxIterations: ITERATION_LIMIT,
  });
  if (clusterBalance === Number.POSITIVE_INFINITY) {
    const centers = Float64Array.from(plain.centroids.flat());
    return withoutEmpty(centers, assignContexts(points, centers, dimensionCount), dimensionCount);
  }
  const balanced = balance(sample, plain.centroids, clusterBalance);
  const centers = Float64Array.from(balanced.centers.flat());
  const contextOfToken = assignContexts(points, centers, dimensionCount);
  drawn.forEach((token, position) => {
    contextOfToken[token] = balanced.contextOf[position]!;
  });
  return withoutEmpty(centers, contextOfToken, dimensionCount);
}

/**
 * Finds the nearest centre of every point; of equally near ones the first.
 *
 * @param points `[pointCount, dimensionCount]`, row-major.
 * @param centers `[contextCount, dimensionCount]`, row-major.
 */
export function assignContexts(points: Float64Array, centers: Float64Array, dimensionCount: number): Int32Array {
  const contextCount = centers.length / dimensionCount;
  const nearest = new Int32Array(points.length / dimensionCount);
  for (let point = 0; point < nearest.length; point++) {
    let least = Number.POSITIVE_INFINITY;
    for (let context = 0; context < contextCount; context++) {
      let distance = 0;
      for (let i = 0; i < dimensionCount; i++) {
        distance += (points[point * dimensionCount + i]! - centers[context * dimensionCount + i]!) ** 2;
      }
      if (distance < least) {
        least = distance;
        nearest[point] = context;
      }
    }
  }
  return nearest;
}

function rowOf(matrix: Float64Array, row: number, width: number): Float64Array {
  return matrix.subarray(row * width, (row + 1) * width);
}

/** ml-kmeans takes whole seeds above 0. */
function seedOf(seed: number): number {
  return Math.floor(createRandom(seed)() * 0x7fffffff) + 1;
}

/** K-means whose assignment step respects size bounds, from converged plain centres. */
function balance(
  sample: number[][],
  start: number[][],
  clusterBalance: number,
): { readonly centers: number[][]; readonly contextOf: Int32Array } {
  const contextCount = start.length;
  const even = sample.length / contextCount;
  const minimum = new Array<number>(contextCount).fill(Math.floor(even * Math.max(0, 1 - clusterBalance)));
  const maximum = new Array<number>(contextCount).fill(Math.ceil(even * (1 + clusterBalance)));
  let centers = start;
  let contextOf = new Int32Array(0);
  for (let iteration = 0; iteration < BALANCED_ITERATION_LIMIT; iteration++) {
    const distances = Float64Array.from(
      sample.flatMap((point) => centers.map((center) => squaredDistance(point, center))),
    );
    const next = assignWithCapacities(distances, contextCount, { minimum, maximum });
    if (contextOf.length > 0 && next.every((context, point) => context === contextOf[point])) break;
    contextOf = Int32Array.from(next);
    centers = meansOf(sample, contextOf, centers);
  }
  return { centers, contextOf };
}

function squaredDistance(one: readonly number[], other: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += (one[i]! - other[i]!) ** 2;
  return sum;
}

function meansOf(sample: number[][], contextOf: Int32Array, previous: number[][]): number[][] {
  const sums = previous.map((center) => center.map(() => 0));
  const counts = previous.map(() => 0);
  sample.forEach((point, index) => {
    const context = contextOf[index]!;
    counts[context]!++;
    const sum = sums[context]!;
    for (let i = 0; i < point.length; i++) sum[i]! += point[i]!;
  });
  return sums.map((sum, context) =>
    counts[context] === 0 ? previous[context]! : sum.map((value) => value / counts[context]!),
  );
}

function withoutEmpty(centers: Float64Array, contextOfToken: Int32Array, dimensionCount: number): Contexts {
  const asked = centers.length / dimensionCount;
  const counts = new Int32Array(asked);
  for (const context of contextOfToken) counts[context]!++;
  const used = Array.from(counts.keys()).filter((context) => counts[context]! > 0);
  const newIndex = new Map(used.map((context, index) => [context, index]));
  const remark = `only ${used.length} of ${asked} contexts hold a token: the calibration tokens are too much alike`;
  return {
    contextCount: used.length,
    dimensionCount,
    centers: Float64Array.from(used.flatMap((context) => [...rowOf(centers, context, dimensionCount)])),
    contextOfToken: contextOfToken.map((context) => newIndex.get(context)!),
    counts: Int32Array.from(used, (context) => counts[context]!),
    remarks: used.length < asked ? [remark] : [],
  };
}

function checkInput({
  points,
  dimensionCount,
  contextCount,
  clusterBalance,
  fitCount,
}: Required<Omit<ClusteringInput, 'seed' | 'centers'>>): void {
  const tokenCount = points.length / dimensionCount;
  if (!Number.isInteger(tokenCount)) {
    throw new OptionError(`${points.length} numbers do not split into points of ${dimensionCount} dimensions`);
  }
  if (!Number.isInteger(contextCount) || contextCount < 1) {
    throw new OptionError(`contextCount is ${contextCount}; expected a whole number of at least 1`);
  }
  if (!(clusterBalance >= 0))
    throw new OptionError(`clusterBalance is ${clusterBalance}; expected at least 0 or Infinity`);
  if (tokenCount < contextCount || !(fitCount >= contextCount)) {
    throw new OptionError(
      `${Math.min(tokenCount, fitCount)} tokens cannot make ${contextCount} contexts: use more calibration tokens or fewer contexts`,
    );
  }
  const bad = points.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw new NumericalError(`token ${Math.floor(bad / dimensionCount)} has ${points[bad]} among its coordinates`);
}
