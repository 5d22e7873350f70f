import { NumericalError } from '../errors.js';
import { choleskyInPlace } from './cholesky.js';
import type { Entries, MultiplyTransposed } from './multiply-transposed.js';

export interface DampenedMatrix<Matrix extends Entries = Float64Array> {
  /** Rows of the matrix. */
  readonly size: number;
  /** A new copy of the matrix, `[size, size]` row-major, positive semidefinite up to rounding; it is overwritten. */
  copy(): Matrix;
  /** Diagonal addition at a dampening of 1. */
  readonly unit: number;
  /** First dampening to try, at least 0. */
  readonly dampening: number;
  readonly multiply?: MultiplyTransposed | undefined;
}

export interface DampenedFactor<Matrix extends Entries = Float64Array> {
  /** Cholesky factor, lower triangular, `[size, size]` row-major. */
  readonly lower: Matrix;
  /** Dampening used. */
  readonly dampening: number;
}

/** Largest number of retries, each with ten times the dampening. */
const RETRY_COUNT = 3;
/** First increase when the dampening is 0. */
const MIN_RETRY = 1e-6;

/**
 * Factorises `matrix + dampening unit I`. If it fails, because of rounding or of directions without data, the dampening
 * is raised tenfold, up to three times.
 *
 * @throws NumericalError when even the largest dampening fails.
 */
export async function factoriseDampened<Matrix extends Entries>(
  given: DampenedMatrix<Matrix>,
): Promise<DampenedFactor<Matrix>> {
  const { size, unit, multiply } = given;
  let { dampening } = given;
  for (let attempt = 0; ; attempt++) {
    const lower = given.copy();
    for (let i = 0; i < size; i++) lower[i * size + i]! += dampening * unit;
    try {
      await choleskyInPlace(lower, size, multiply);
      return { lower, dampening };
    } catch (cause) {
      if (!(cause instanceof NumericalError)) throw cause;
      if (attempt === RETRY_COUNT)
        throw new NumericalError(
          `a matrix of size ${size} cannot be factorised even with dampening ${dampening} (requested: ${given.dampening}). ` +
            'Use more calibration tokens, or check the activations for overflow',
          { cause },
        );
      dampening = raise(dampening);
    }
  }
}

/** Ten times, rounded to a short number for messages. */
function raise(dampening: number): number {
  return Number((Math.max(dampening, MIN_RETRY) * 10).toPrecision(12));
}
