import { pickColumns } from '../importance/column-sums.js';
import { type DampenedHessian, factoriseChannels } from '../importance/hessian.js';
import { halfSolveRowsInPlace, solveOtherHalfInPlace } from '../linalg/cholesky.js';
import { estimateCondition } from '../linalg/estimate-condition.js';
import { pickSubmatrix } from '../linalg/matrix-block.js';
import { multiplyTransposed } from '../linalg/multiply-transposed.js';
import type { Compensated, ImportanceProblem } from './adapter.js';
import { removedChannels } from './removed-channels.js';

/**
 * Least-squares repair (OBC): `W_keep <- W H_:,keep (H_keep,keep)^-1`, the columns that best reproduce the layer's
 * output on the calibration tokens. Computed as the correction `W_P H_P,keep (H_keep,keep)^-1` added to the remaining
 * columns, which leaves them unchanged when nothing is removed. The dampening is raised where the factorisation fails,
 * see `factoriseChannels`.
 *
 * @param keep Ascending channel indices.
 * @returns `[out, keep.length]` weight, and the condition, if anything was repaired.
 * @throws NumericalError when even the largest dampening fails.
 */
export async function compensateByLeastSquares(
  problem: ImportanceProblem,
  hessian: DampenedHessian,
  keep: Int32Array,
): Promise<Compensated & { readonly weight: Float32Array }> {
  const { size, gram } = hessian;
  const { multiply = multiplyTransposed } = problem;
  const removed = removedChannels(keep, size);
  const remaining = pickColumns(problem.weight, keep);
  if (removed.length === 0 || keep.length === 0) return { weight: Float32Array.from(remaining) };
  const count = keep.length;
  const { lower, dampening, remarks } = await factoriseChannels(hessian, keep, multiply);
  const coupling = pickSubmatrix(gram, size, { rows: keep, columns: removed });
  const shape = { rows: problem.weight.shape[0]!, columns: count, inner: removed.length };
  const correction = await multiply(pickColumns(problem.weight, removed), coupling, shape);
  await halfSolveRowsInPlace(lower, correction, { size: count, multiply });
  const halved = sumOfSquares(correction);
  await solveOtherHalfInPlace(lower, correction, { size: count, multiply });
  // H is twice the Gram matrix; the coupling above was not doubled.
  const weight = new Float32Array(remaining.length);
  for (let at = 0; at < weight.length; at++) weight[at] = remaining[at]! + 2 * correction[at]!;
  // With X the correction and B its right-hand side: <X, B> + damping |X|², twice for the doubled Hessian.
  const regained = 2 * halved + 2 * dampening * hessian.unit * sumOfSquares(correction);
  return {
    weight,
    numerics: { dampening, condition: estimateCondition(lower, count) },
    remarks,
    ...(gram === problem.statistics.gram && { regained }),
  };
}

function sumOfSquares(values: Float64Array): number {
  let sum = 0;
  for (let at = 0; at < values.length; at++) sum += values[at]! * values[at]!;
  return sum;
}
