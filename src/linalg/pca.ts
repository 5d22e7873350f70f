import { NumericalError, OptionError } from '../errors.js';
import { decomposeLeading } from './decompose-leading.js';
import { findLeadingEigenpairs } from './leading-eigenpairs.js';
import { findNonFinite } from './matrix-block.js';
import type { MultiplyTransposed } from './multiply-transposed.js';

/** Principal components of points with `size` coordinates. */
export interface Pca {
  readonly size: number;
  readonly componentCount: number;
  /** Length `size`. */
  readonly mean: Float64Array;
  /** `[size, componentCount]` row-major: unit columns by descending variance, each with its largest entry positive. */
  readonly components: Float64Array;
  /** Variance along each component, descending; length `componentCount`. */
  readonly variances: Float64Array;
}

/** Up to this size the full decomposition is faster than iteration (about 0.06 s). */
const DENSE_LIMIT = 384;

/** Number of components, and the port for large products. */
export interface PcaRequest {
  /** At least 1; a PCA has no more components than the points have coordinates. */
  readonly componentCount: number;
  /** Default: plain loops. */
  readonly multiply?: MultiplyTransposed | undefined;
}

/**
 * Finds the leading principal components from a mean and a covariance.
 *
 * @param mean Length `size`.
 * @param covariance `[size, size]` row-major, symmetric.
 * @throws OptionError when the shapes disagree; NumericalError when an entry is not finite.
 */
export async function fitPca(
  mean: Float64Array,
  covariance: Float64Array,
  { componentCount, multiply }: PcaRequest,
): Promise<Pca> {
  const size = mean.length;
  if (size === 0 || covariance.length !== size * size || !Number.isInteger(componentCount) || componentCount < 1) {
    throw new OptionError(
      `principal components need a mean of n > 0 numbers, a covariance of n x n and at least one component; found ` +
        `${size}, ${covariance.length} and ${componentCount}`,
    );
  }
  if (findNonFinite(covariance) >= 0 || findNonFinite(mean) >= 0) {
    throw new NumericalError(
      'the mean or covariance of the tokens contains NaN or Infinity: check the model and its text',
    );
  }
  const count = Math.min(componentCount, size);
  const leading = size > DENSE_LIMIT ? await findLeadingEigenpairs(covariance, size, { count, multiply }) : undefined;
  const { vectors, values } = leading ?? decomposeLeading(covariance, size, count);
  const components = new Float64Array(size * count);
  for (let component = 0; component < count; component++) {
    const vector = vectors.subarray(component * size, (component + 1) * size);
    const sign = vector[indexOfLargest(vector)]! < 0 ? -1 : 1;
    for (let i = 0; i < size; i++) components[i * count + component] = sign * vector[i]!;
  }
  return { size, componentCount: count, mean, components, variances: values.slice(0, count) };
}

/**
 * Projects points onto the components, after subtracting the mean.
 *
 * @param points `[pointCount, size]`, row-major.
 * @returns `[pointCount, componentCount]`, row-major.
 */
export function projectPoints(pca: Pca, points: Float32Array | Float64Array): Float64Array {
  const { size, componentCount, components } = pca;
  const pointCount = points.length / size;
  const projected = new Float64Array(pointCount * componentCount);
  for (let point = 0; point < pointCount; point++) {
    const out = point * componentCount;
    for (let i = 0; i < size; i++) {
      const centred = points[point * size + i]! - pca.mean[i]!;
      const row = i * componentCount;
      for (let component = 0; component < componentCount; component++) {
        projected[out + component]! += centred * components[row + component]!;
      }
    }
  }
  return projected;
}

function indexOfLargest(vector: Float64Array): number {
  let largest = 0;
  for (let i = 1; i < vector.length; i++) if (Math.abs(vector[i]!) > Math.abs(vector[largest]!)) largest = i;
  return largest;
}
