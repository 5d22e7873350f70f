import { NumericalError } from '../errors.js';
import { choleskyInPlace } from './cholesky.js';
import { decomposeLeading, type Eigenpairs } from './decompose-leading.js';
import { pickSubmatrix, transposeMatrix } from './matrix-block.js';
import { type MultiplyTransposed, multiplyTransposed } from './multiply-transposed.js';
import { createRandom, drawNormal, type Random } from './random.js';

/** Block size of the Krylov space: efficient for `multiplyTransposed`, and the largest multiplicity of eigenvalues that is found. */
const BLOCK_SIZE = 4;
/** The space is first checked at this many vectors per wanted one, which usually suffices for real covariances. */
const FIRST_CHECK = 4;
const GROWTH = 1.25;
/** A larger fraction of the entire space costs more than the full decomposition. */
const MAX_FRACTION = 0.75;
/** Largest angle between the space found and the true one, estimated from residuals. */
const TOLERANCE = 1e-8;
/** A missed eigenvalue is detected if it exceeds the last one found by this fraction of the largest. */
const MISSED = 1e-10;

/** Number of pairs, and the port for large products. */
export interface LeadingRequest {
  /** At least 1. */
  readonly count: number;
  readonly multiply?: MultiplyTransposed | undefined;
}

/**
 * The `count` largest eigenpairs of a symmetric matrix by block Lanczos with full reorthogonalisation, from a start
 * that depends only on the size. Residuals verify the pairs, a Cholesky factorisation verifies that no larger one is
 * missing.
 *
 * @returns undefined when either check fails or the space would become too large; use the full decomposition then.
 * @see Golub & Van Loan, Matrix Computations, section 10.3
 */
export async function findLeadingEigenpairs(
  symmetric: Float64Array,
  size: number,
  { count, multiply = multiplyTransposed }: LeadingRequest,
): Promise<Eigenpairs | undefined> {
  const limit = Math.floor(MAX_FRACTION * size);
  const space = { size, basis: new Float64Array(limit * size), random: createRandom(size) };
  const projected = new Float64Array(limit * limit);
  let fresh: Float64Array = Float64Array.from({ length: BLOCK_SIZE * size }, () => drawNormal(space.random));
  let nextCheck = FIRST_CHECK * (count + BLOCK_SIZE);
  for (let width = BLOCK_SIZE; width <= limit; width += BLOCK_SIZE) {
    const start = width - BLOCK_SIZE;
    space.basis.set(orthonormalise(space, start, fresh), start * size);
    const known = space.basis.subarray(0, width * size);
    const shape = { rows: BLOCK_SIZE, columns: size, inner: size };
    fresh = multiplyTransposed(known.subarray(start * size), symmetric, shape);
    for (const [at, value] of overlaps(fresh, known, size).entries()) {
      const [row, column] = [start + Math.floor(at / width), at % width];
      projected[row * limit + column] = value;
      projected[column * limit + row] = value;
    }
    removeSpan(fresh, known, size);
    if (width < nextCheck) continue;
    const indices = Int32Array.from({ length: width }, (_, i) => i);
    // One more than needed, as a bound of the rest.
    const ritz = decomposeLeading(
      pickSubmatrix(projected, limit, { rows: indices, columns: indices }),
      width,
      count + 1,
    );
    if (isAccurate(ritz, { count, width, residual: fresh })) {
      const found = {
        values: ritz.values.slice(0, count),
        vectors: multiplyTransposed(ritz.vectors.subarray(0, count * width), transposeMatrix(known, width, size), {
          rows: count,
          columns: size,
          inner: width,
        }),
      };
      return (await areLargest(symmetric, found, multiply)) ? found : undefined;
    }
    nextCheck = Math.ceil(width * GROWTH);
  }
  return undefined;
}

/** A Ritz pair's residual is its last coordinates times the part of the image outside the space. */
function isAccurate(
  { values, vectors }: Eigenpairs,
  { count, width, residual }: { readonly count: number; readonly width: number; readonly residual: Float64Array },
): boolean {
  const size = residual.length / BLOCK_SIZE;
  const products = overlaps(residual, residual, size);
  let squares = 0;
  for (let pair = 0; pair < count; pair++) {
    const last = vectors.subarray((pair + 1) * width - BLOCK_SIZE, (pair + 1) * width);
    products.forEach((product, at) => {
      squares += last[Math.floor(at / BLOCK_SIZE)]! * product * last[at % BLOCK_SIZE]!;
    });
  }
  const gap = values[count - 1]! - values[count]!;
  return Math.sqrt(Math.max(0, squares)) <= Math.max(TOLERANCE * gap, 4 * Number.EPSILON * Math.abs(values[0]!));
}

/**
 * Whether eigenpairs of a symmetric matrix are its largest: `last eigenvalue I - rest of the matrix` is then positive
 * definite. An eigenvalue that exceeds the last one by less than 1e-10 of the largest is not detected.
 */
export async function areLargest(
  symmetric: Float64Array,
  { values, vectors }: Eigenpairs,
  multiply: MultiplyTransposed,
): Promise<boolean> {
  const count = values.length;
  const size = vectors.length / count;
  const columns = transposeMatrix(vectors, count, size);
  const scaled = columns.slice();
  for (let at = 0; at < scaled.length; at++) scaled[at]! *= values[at % count]!;
  const found = await multiply(scaled, columns, { rows: size, columns: size, inner: count });
  const gap = new Float64Array(found.length);
  for (let at = 0; at < gap.length; at++) gap[at] = found[at]! - symmetric[at]!;
  const bound = values[count - 1]! + MISSED * Math.abs(values[0]!);
  for (let i = 0; i < size; i++) gap[i * size + i]! += bound;
  try {
    await choleskyInPlace(gap, size, multiply);
    return true;
  } catch (error) {
    if (!(error instanceof NumericalError)) throw error;
    return false;
  }
}

interface Space {
  readonly size: number;
  /** Orthonormal rows. */
  readonly basis: Float64Array;
  readonly random: Random;
}

/**
 * Makes rows orthonormal, and orthogonal to the first `width` rows of the basis. A row that depends linearly on the others
 * is replaced by a random one.
 * @param rows Rows projected off the basis once: a second projection removes the rounding errors of the first.
 */
function orthonormalise({ size, basis, random }: Space, width: number, rows: Float64Array): Float64Array {
  const known = basis.subarray(0, width * size);
  removeSpan(rows, known, size);
  for (let start = 0; start < rows.length; start += size) {
    const row = rows.subarray(start, start + size);
    const earlier = rows.subarray(0, start);
    for (;;) {
      const before = norm(row);
      removeSpan(row, earlier, size);
      removeSpan(row, earlier, size);
      // Errors that were small relative to the entire row are large relative to its remainder.
      if (norm(row) < 0.1 * before) for (const span of [known, earlier]) removeSpan(row, span, size);
      const after = norm(row);
      if (after > 1e-10 * before && after > Number.MIN_VALUE / Number.EPSILON) {
        for (let i = 0; i < size; i++) row[i]! /= after;
        break;
      }
      for (let i = 0; i < size; i++) row[i] = drawNormal(random);
      for (const span of [known, known]) removeSpan(row, span, size);
    }
  }
  return rows;
}

/** Projects each row off the span of some orthonormal ones. */
function removeSpan(rows: Float64Array, orthonormal: Float64Array, size: number): void {
  const width = orthonormal.length / size;
  const found = overlaps(rows, orthonormal, size);
  const paired = width - (width % 2);
  for (let row = 0; row < rows.length / size; row++) {
    const at = row * size;
    // Two at a time: half as many writes.
    for (let other = 0; other < paired; other += 2) {
      const [first, second] = [found[row * width + other]!, found[row * width + other + 1]!];
      const one = other * size;
      const two = one + size;
      for (let i = 0; i < size; i++) rows[at + i]! -= first * orthonormal[one + i]! + second * orthonormal[two + i]!;
    }
    if (paired === width) continue;
    const last = found[row * width + paired]!;
    for (let i = 0; i < size; i++) rows[at + i]! -= last * orthonormal[paired * size + i]!;
  }
}

const overlaps = (rows: Float64Array, others: Float64Array, size: number): Float64Array =>
  multiplyTransposed(rows, others, { rows: rows.length / size, columns: others.length / size, inner: size });

function norm(vector: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) sum += vector[i]! * vector[i]!;
  return Math.sqrt(sum);
}
