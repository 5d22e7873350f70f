import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { NumericalError, OptionError } from '../errors.js';
import { multiplyTransposed } from './multiply-transposed.js';
import { createRandom, drawNormal } from './random.js';

/** Principal axes of a cloud of points with `size` coordinates. */
export interface Pca {
  readonly size: number;
  readonly componentCount: number;
  /** Length `size`. */
  readonly mean: Float64Array;
  /** `[size, componentCount]` row-major: unit columns by falling variance, each with its largest entry positive. */
  readonly components: Float64Array;
  /** Variance along each component, falling; length `componentCount`. */
  readonly variances: Float64Array;
}

/** Up to this size a full decomposition is quicker than iterating (about half a second). */
const DENSE_LIMIT = 384;
/** Subspace iteration carries this many vectors more than asked for; they speed up the slowest wanted one. */
const OVERSAMPLING = 16;
const ITERATION_LIMIT = 200;
/** Iteration ends when no variance moves by more than this fraction of the largest. */
const TOLERANCE = 1e-8;

/**
 * Finds the leading principal components from a mean and a covariance.
 *
 * @param mean Length `size`.
 * @param covariance `[size, size]` row-major, symmetric.
 * @param componentCount At least 1; more than `size` gives `size`.
 * @throws OptionError when the shapes disagree; NumericalError when an entry is not finite.
 */
export function fitPca(mean: Float64Array, covariance: Float64Array, componentCount: number): Pca {
  const size = mean.length;
  if (size === 0 || covariance.length !== size * size || !Number.isInteger(componentCount) || componentCount < 1) {
    throw new OptionError(
      `principal components need a mean of n > 0 numbers, a covariance of n x n and at least one component; found ` +
        `${size}, ${covariance.length} and ${componentCount}`,
    );
  }
  if (!covariance.every(Number.isFinite) || !mean.every(Number.isFinite)) {
    throw new NumericalError(
      'the mean or covariance of the tokens holds NaN or Infinity: check the model and its text',
    );
  }
  const count = Math.min(componentCount, size);
  const { vectors, variances } =
    size <= DENSE_LIMIT ? decompose(covariance, size) : iterateSubspace(covariance, size, count);
  const components = new Float64Array(size * count);
  for (let component = 0; component < count; component++) {
    const vector = vectors.subarray(component * size, (component + 1) * size);
    const sign = vector[indexOfLargest(vector)]! < 0 ? -1 : 1;
    for (let i = 0; i < size; i++) components[i * count + component] = sign * vector[i]!;
  }
  return { size, componentCount: count, mean, components, variances: variances.slice(0, count) };
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

interface Eigenpairs {
  /** Eigenvectors as rows, `[count, size]`. */
  readonly vectors: Float64Array;
  readonly variances: Float64Array;
}

function decompose(symmetric: Float64Array, size: number): Eigenpairs {
  const matrix = Matrix.from1DArray(size, size, symmetric);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  const order = realEigenvalues.map((_, index) => index).sort((a, b) => realEigenvalues[b]! - realEigenvalues[a]!);
  const vectors = new Float64Array(size * size);
  order.forEach((source, target) => {
    for (let i = 0; i < size; i++) vectors[target * size + i] = eigenvectorMatrix.get(i, source);
  });
  return { vectors, variances: Float64Array.from(order, (source) => realEigenvalues[source]!) };
}

/** Orthogonal iteration with a Rayleigh-Ritz step; all vectors are rows. */
function iterateSubspace(symmetric: Float64Array, size: number, count: number): Eigenpairs {
  const width = Math.min(size, count + OVERSAMPLING);
  const random = createRandom(size);
  let basis: Float64Array = Float64Array.from({ length: width * size }, () => drawNormal(random));
  orthonormaliseRows(basis, { size, random });
  let variances: Float64Array = new Float64Array(width);
  for (let iteration = 0; iteration < ITERATION_LIMIT; iteration++) {
    const image = multiplyTransposed(basis, symmetric, { rows: width, columns: size, inner: size });
    const small = multiplyTransposed(image, basis, { rows: width, columns: width, inner: size });
    const ritz = decompose(symmetrise(small, width), width);
    const moved = ritz.variances.reduce(
      (most, v, i) => (i < count ? Math.max(most, Math.abs(v - variances[i]!)) : most),
      0,
    );
    variances = Float64Array.from(ritz.variances);
    const converged = moved <= TOLERANCE * Math.abs(variances[0]!);
    // The last rotation must act on the orthonormal basis: its rows are the Ritz vectors.
    const source = converged ? basis : image;
    basis = multiplyTransposed(ritz.vectors, transpose(source, width, size), {
      rows: width,
      columns: size,
      inner: width,
    });
    if (converged) break;
    orthonormaliseRows(basis, { size, random });
  }
  return { vectors: basis, variances };
}

function symmetrise(matrix: Float64Array, size: number): Float64Array {
  return matrix.map((value, at) => (value + matrix[(at % size) * size + Math.floor(at / size)]!) / 2);
}

function transpose(matrix: Float64Array, rows: number, columns: number): Float64Array {
  return Float64Array.from(
    { length: matrix.length },
    (_, at) => matrix[(at % rows) * columns + Math.floor(at / rows)]!,
  );
}

function orthonormaliseRows(rows: Float64Array, { size, random }: { size: number; random: () => number }): void {
  for (let start = 0; start < rows.length; start += size) {
    const row = rows.subarray(start, start + size);
    for (;;) {
      const before = Math.sqrt(dot(row, row));
      // Twice is enough: one pass of Gram-Schmidt leaves rounding errors of the size of what it removed.
      for (let pass = 0; pass < 2; pass++) {
        for (let other = 0; other < start; other += size) {
          const earlier = rows.subarray(other, other + size);
          const overlap = dot(row, earlier);
          for (let i = 0; i < size; i++) row[i]! -= overlap * earlier[i]!;
        }
      }
      const norm = Math.sqrt(dot(row, row));
      if (norm > 1e-12 * before && norm > Number.MIN_VALUE / Number.EPSILON) {
        for (let i = 0; i < size; i++) row[i]! /= norm;
        break;
      }
      // The matrix has fewer directions than the basis: go on with a fresh one.
      for (let i = 0; i < size; i++) row[i] = drawNormal(random);
    }
  }
}

function dot(left: Float64Array, right: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < left.length; i++) sum += left[i]! * right[i]!;
  return sum;
}

function indexOfLargest(vector: Float64Array): number {
  let largest = 0;
  for (let i = 1; i < vector.length; i++) if (Math.abs(vector[i]!) > Math.abs(vector[largest]!)) largest = i;
  return largest;
}
