import type { ImportanceProblem } from '../compensation/adapter.js';
import { NumericalError } from '../errors.js';
import { choleskyInPlace } from '../linalg/cholesky.js';
import { estimateCondition } from '../linalg/estimate-condition.js';

/** `H = 2 A + shift I` of the layer-wise squared error, known to be positive definite. */
export interface Hessian {
  readonly size: number;
  /** `A`, `[size, size]` row-major. */
  readonly gram: Float64Array;
  /** Added to the diagonal of `2 A`. */
  readonly shift: number;
  /** Cholesky factor of `H`, lower triangular, `[size, size]` row-major. */
  readonly lower: Float64Array;
  /** Dampening used, as a fraction of the mean of `diag(2 A)`. */
  readonly dampening: number;
  /** Estimate of the condition number of `H`, from below. */
  readonly condition: number;
  readonly remarks: readonly string[];
}

export interface HessianOptions {
  /** Fraction of the mean of `diag(2 A)` added to the diagonal, at least 0. */
  readonly dampening: number;
  /** Takes the covariance in place of `A`, for a repair that also adds a bias. Default false. */
  readonly centred?: boolean;
}

/** Dampening grows tenfold after each failed factorisation, this many times at most. */
const RETRY_COUNT = 3;
/** Where growing starts when no dampening was asked for. */
const SMALLEST_RETRY = 1e-6;

/**
 * Builds and factorises the Hessian of `||W h - W' h||^2` over the calibration tokens. Where rounding or channels that
 * were never excited defeat the factorisation, the dampening is raised tenfold up to three times and a remark says so.
 *
 * @throws NumericalError when even the largest dampening fails.
 */
export async function factoriseHessian(
  problem: ImportanceProblem,
  { dampening, centred = false }: HessianOptions,
): Promise<Hessian> {
  const size = problem.unitOfChannel.length;
  const gram = centred ? centreGram(problem, size) : problem.statistics.gram!;
  let scale = 0;
  for (let i = 0; i < size; i++) scale += (2 * gram[i * size + i]!) / size;
  // With no excitation at all every choice is equally good; the identity lets the weights decide.
  const unit = scale > 0 ? scale : 1;
  let relative = scale > 0 ? dampening : 1;
  let failure: unknown;
  for (let attempt = 0; attempt <= RETRY_COUNT; attempt++) {
    const shift = relative * unit;
    const lower = gram.map((value) => 2 * value);
    for (let i = 0; i < size; i++) lower[i * size + i]! += shift;
    try {
      await choleskyInPlace(lower, size, problem.multiply);
      const raised = `dampening raised from ${dampening} to ${relative}: the Hessian of ${size} channels was not positive definite`;
      const condition = estimateCondition(lower, size);
      return { size, gram, shift, lower, dampening: relative, condition, remarks: attempt === 0 ? [] : [raised] };
    } catch (error) {
      if (!(error instanceof NumericalError)) throw error;
      failure = error;
      relative = Math.max(relative, SMALLEST_RETRY) * 10;
    }
  }
  throw new NumericalError(
    `the Hessian of ${size} channels cannot be factorised even with dampening ${relative / 10} (asked for: ${dampening}). ` +
      'Use more calibration tokens, or check the activations for overflow',
    { cause: failure },
  );
}

function centreGram({ statistics }: ImportanceProblem, size: number): Float64Array {
  const { gram, mean } = statistics;
  const centred = gram!.slice();
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) centred[i * size + j]! -= mean[i]! * mean[j]!;
  }
  return centred;
}
