import { kmeans } from 'ml-kmeans';
import { NumericalError, OptionError } from '../errors.js';
import { findNonFinite, pickRows } from '../linalg/matrix-block.js';
import { createRandom, drawPermutation } from '../linalg/random.js';
import { drawStartCenters, type StartRequest } from './draw-start-centers.js';
import { assignContexts, balancedContexts, nearestContexts, refineCenters, sumOfSquares } from './refine-centers.js';

export interface ClusteringInput {
  /** Tokens in PCA space, `[tokenCount, dimensionCount]` row-major. */
  readonly points: Float64Array;
  readonly dimensionCount: number;
  /** K, at least 1. Default 7. */
  readonly contextCount?: number;
  /**
   * Sizes of the fitted clusters remain within `tokens / K * (1 +- clusterBalance)`; at least 0. Infinity = plain k-means.
   * Default 0.4, as in FANG's published code.
   */
  readonly clusterBalance?: number;
  /** Centres are fitted on at most this many tokens, drawn by seed. Default 8192. */
  readonly fitCount?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Known centres, `[contextCount, dimensionCount]` row-major: nothing is fitted, and every token is assigned to the nearest. */
  readonly centers?: Float64Array | undefined;
}

/** Contexts of one block: clusters of calibration tokens. */
export interface Contexts {
  /** May be below the requested number; `remarks` has the reason. */
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

/** Tokens of each try of initial centres: enough to have all clusters, few enough for several tries. */
const TRY_COUNT = 1024;
/** Number of tries: rounding decides which local optimum a try finds; the best of several is better, and mostly the same in float16. */
const TRIES = 4;
/** Enough iterations to rank tries; the best is refined on all tokens. */
const TRY_ITERATIONS = 5;

/**
 * Clusters tokens into contexts: k-means on a bounded sample, from the best of some k-means++ tries on a part of it. Unless
 * `clusterBalance` is infinite, cluster sizes are then bounded. Sampled tokens keep the context of the bounded fit; all
 * others get that of their nearest centre. Contexts without tokens (where tokens coincide) are dropped with a remark.
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
  const order = drawPermutation(createRandom(seed), tokenCount);
  const drawn = order.slice(0, fitCount).sort();
  const sample = pickRows(points, dimensionCount, drawn);
  const tried = pickRows(points, dimensionCount, order.slice(0, Math.max(TRY_COUNT, contextCount)).sort());
  const start = bestOfTries({ points: tried, dimensionCount, contextCount, random: createRandom(seed) });
  const plain = refineCenters({ points: sample, centers: start, assign: nearestContexts(sample, dimensionCount) });
  if (clusterBalance === Number.POSITIVE_INFINITY) {
    return withoutEmpty(plain.centers, assignContexts(points, plain.centers, dimensionCount), dimensionCount);
  }
  const balanced = refineCenters({
    points: sample,
    centers: plain.centers,
    assign: balancedContexts(sample, { dimensionCount, contextCount, clusterBalance }),
  });
  const contextOfToken = assignContexts(points, balanced.centers, dimensionCount);
  drawn.forEach((token, position) => {
    contextOfToken[token] = balanced.contextOf[position]!;
  });
  return withoutEmpty(balanced.centers, contextOfToken, dimensionCount);
}

function rowOf(matrix: Float64Array, row: number, width: number): Float64Array {
  return matrix.subarray(row * width, (row + 1) * width);
}

/** Centres with the least sum of squared distances. */
function bestOfTries(request: StartRequest): Float64Array {
  const { points, dimensionCount, contextCount } = request;
  const rows = toRows(points, dimensionCount);
  const tries = Array.from({ length: TRIES }, () => {
    const initialization = toRows(drawStartCenters(request), dimensionCount);
    const { centroids } = kmeans(rows, contextCount, { initialization, maxIterations: TRY_ITERATIONS });
    const centers = Float64Array.from(centroids.flat());
    return { centers, spread: sumOfSquares(points, centers, dimensionCount) };
  });
  return tries.reduce((best, one) => (one.spread < best.spread ? one : best)).centers;
}

const toRows = (matrix: Float64Array, width: number): number[][] =>
  Array.from({ length: matrix.length / width }, (_, row) => [...rowOf(matrix, row, width)]);

function withoutEmpty(centers: Float64Array, contextOfToken: Int32Array, dimensionCount: number): Contexts {
  const requested = centers.length / dimensionCount;
  const counts = new Int32Array(requested);
  for (const context of contextOfToken) counts[context]!++;
  const used = Array.from(counts.keys()).filter((context) => counts[context]! > 0);
  const newIndex = new Map(used.map((context, index) => [context, index]));
  const remark = `only ${used.length} of ${requested} contexts have a token: the calibration tokens are too similar`;
  return {
    contextCount: used.length,
    dimensionCount,
    centers: Float64Array.from(used.flatMap((context) => [...rowOf(centers, context, dimensionCount)])),
    contextOfToken: contextOfToken.map((context) => newIndex.get(context)!),
    counts: Int32Array.from(used, (context) => counts[context]!),
    remarks: used.length < requested ? [remark] : [],
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
    throw new OptionError(`contextCount is ${contextCount}; expected an integer of at least 1`);
  }
  if (!(clusterBalance >= 0))
    throw new OptionError(`clusterBalance is ${clusterBalance}; expected at least 0 or Infinity`);
  if (tokenCount < contextCount || !(fitCount >= contextCount)) {
    throw new OptionError(
      `${Math.min(tokenCount, fitCount)} tokens cannot make ${contextCount} contexts: use more calibration tokens or fewer contexts`,
    );
  }
  const invalid = findNonFinite(points);
  if (invalid >= 0)
    throw new NumericalError(`token ${Math.floor(invalid / dimensionCount)} has the coordinate ${points[invalid]}`);
}
