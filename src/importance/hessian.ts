import type { ImportanceProblem } from '../compensation/adapter.js';
import { estimateCondition } from '../linalg/estimate-condition.js';
import { factoriseDampened } from '../linalg/factorise-dampened.js';

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
  const asked = scale > 0 ? dampening : 1;
  const copy = () => gram.map((value) => 2 * value);
  const factor = await factoriseDampened({ size, copy, unit, dampening: asked, multiply: problem.multiply });
  const { lower, dampening: used } = factor;
  const raised = `dampening raised from ${dampening} to ${used}: the Hessian of ${size} channels was not positive definite`;
  return {
    size,
    gram,
    shift: used * unit,
    lower,
    dampening: used,
    condition: estimateCondition(lower, size),
    remarks: used === asked ? [] : [raised],
  };
}

function centreGram({ statistics }: ImportanceProblem, size: number): Float64Array {
  const { gram, mean } = statistics;
  const centred = gram!.slice();
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) centred[i * size + j]! -= mean[i]! * mean[j]!;
  }
  return centred;
}
