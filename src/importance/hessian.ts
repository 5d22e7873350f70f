import type { ImportanceProblem } from '../compensation/adapter.js';
import { factoriseDampened } from '../linalg/factorise-dampened.js';

/** `H = 2 A + dampening unit I` of the layer-wise squared error. */
export interface DampenedHessian {
  readonly size: number;
  /** `A`, `[size, size]` row-major. */
  readonly gram: Float64Array;
  /** What 1 of dampening adds to the diagonal of `2 A`: its mean. */
  readonly unit: number;
  readonly dampening: number;
}

/** A Hessian known to be positive definite with its dampening. */
export interface Hessian extends DampenedHessian {
  /** Cholesky factor of `H`, lower triangular, `[size, size]` row-major. */
  readonly lower: Float64Array;
  readonly remarks: readonly string[];
}

export interface HessianOptions {
  /** Fraction of the mean of `diag(2 A)` added to the diagonal, at least 0. */
  readonly dampening: number;
  /** Takes the covariance in place of `A`, for a repair that also adds a bias. Default false. */
  readonly centred?: boolean;
}

/** Builds the Hessian of `||W h - W' h||^2` over the calibration tokens. */
export function buildHessian(
  problem: ImportanceProblem,
  { dampening, centred = false }: HessianOptions,
): DampenedHessian {
  const size = problem.unitOfChannel.length;
  const gram = centred ? centreGram(problem, size) : problem.statistics.gram!;
  let scale = 0;
  for (let i = 0; i < size; i++) scale += (2 * gram[i * size + i]!) / size;
  // With no excitation at all every choice is equally good; the identity lets the weights decide.
  return scale > 0 ? { size, gram, unit: scale, dampening } : { size, gram, unit: 1, dampening: 1 };
}

/**
 * Builds the Hessian and factorises it. Where rounding or channels that were never excited defeat the factorisation, the
 * dampening is raised tenfold up to three times and a remark says so.
 *
 * @throws NumericalError when even the largest dampening fails.
 */
export async function factoriseHessian(problem: ImportanceProblem, options: HessianOptions): Promise<Hessian> {
  const built = buildHessian(problem, options);
  const copy = () => built.gram.map((value) => 2 * value);
  return { ...built, ...(await factoriseDampened({ ...built, copy, multiply: problem.multiply })) };
}

function centreGram({ statistics }: ImportanceProblem, size: number): Float64Array {
  const { gram, mean } = statistics;
  const centred = gram!.slice();
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) centred[i * size + j]! -= mean[i]! * mean[j]!;
  }
  return centred;
}
