import type { ImportanceProblem } from '../compensation/adapter.js';
import { type DampenedFactor, factoriseDampened } from '../linalg/factorise-dampened.js';
import { pickSubmatrix } from '../linalg/matrix-block.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';

/** `H = 2 A + dampening unit I` of the layer-wise squared error. */
export interface DampenedHessian {
  readonly size: number;
  /** `A`, `[size, size]` row-major. */
  readonly gram: Float64Array;
  /** Mean of the diagonal of `2 A`: the unit of dampening. */
  readonly unit: number;
  readonly dampening: number;
}

/** Cholesky factor of the Hessian of some channels, with the dampening used. */
export interface HessianFactor extends DampenedFactor {
  /** Present where the dampening was raised. */
  readonly remarks: readonly string[];
}

/** A dampened Hessian with its Cholesky factor. */
export interface Hessian extends DampenedHessian, HessianFactor {
  readonly dampening: number;
}

export interface HessianOptions {
  /** Fraction of the mean of `diag(2 A)` added to the diagonal, at least 0. */
  readonly dampening: number;
  /** Uses the covariance instead of `A`, for a repair that also adds a bias. Default false. */
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
  // If all channels are 0 on all tokens, the identity makes scores depend on the weights.
  return scale > 0 ? { size, gram, unit: scale, dampening } : { size, gram, unit: 1, dampening: 1 };
}

/**
 * Factorises the Hessian of some channels. Where it fails, because of rounding or of channels that are always zero, the
 * dampening is raised tenfold up to three times and a remark says so.
 *
 * @param channels Ascending.
 * @throws NumericalError when even the largest dampening fails.
 */
export async function factoriseChannels(
  hessian: DampenedHessian,
  channels: Int32Array,
  multiply?: MultiplyTransposed,
): Promise<HessianFactor> {
  const { gram, unit, dampening: requested } = hessian;
  const size = channels.length;
  const copy = () => {
    const picked = pickSubmatrix(gram, hessian.size, { rows: channels, columns: channels });
    for (let at = 0; at < picked.length; at++) picked[at]! *= 2;
    return picked;
  };
  const { lower, dampening } = await factoriseDampened({ size, copy, unit, dampening: requested, multiply });
  const remark = `dampening raised from ${requested} to ${dampening}: the Hessian of ${size} channels was not positive definite`;
  return { lower, dampening, remarks: dampening === requested ? [] : [remark] };
}

/** Builds the Hessian of all channels and factorises it, see `factoriseChannels`. */
export async function factoriseHessian(problem: ImportanceProblem, options: HessianOptions): Promise<Hessian> {
  const built = buildHessian(problem, options);
  const all = Int32Array.from({ length: built.size }, (_, channel) => channel);
  return { ...built, ...(await factoriseChannels(built, all, problem.multiply)) };
}

function centreGram({ statistics }: ImportanceProblem, size: number): Float64Array {
  const { gram, mean } = statistics;
  const centred = gram!.slice();
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) centred[i * size + j]! -= mean[i]! * mean[j]!;
  }
  return centred;
}
