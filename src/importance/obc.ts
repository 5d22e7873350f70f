import type { ImportanceProblem } from '../compensation/adapter.js';
import { choleskyInPlace, invertFactorInPlace, solveRowsInPlace } from '../linalg/cholesky.js';
import { pickRows, squaredRowNorms } from '../linalg/matrix-block.js';
import { multiplyTransposed } from '../linalg/multiply-transposed.js';
import { columnSums, pickColumns } from './column-sums.js';
import type { Hessian } from './hessian.js';
import { channelsOfUnits } from './units.js';

/**
 * Optimal Brain Compression: the squared error that remains after removing a unit and repairing the others,
 * `||W_:j||^2 / [H^-1]_jj` for a neuron and `trace(W_P ([H^-1]_PP)^-1 W_P^T)` for a head's channels P.
 *
 * @param hessian Its factor is overwritten. @returns Length `unitCount`.
 * @see Hassibi & Stork, NIPS 1993; structured form: ZipLM (Kurtic et al., NeurIPS 2023, arXiv 2302.04089)
 */
export async function scoreByObc(problem: ImportanceProblem, hessian: Hessian): Promise<Float64Array> {
  const { size } = hessian;
  const inverseFactor = hessian.lower;
  await invertFactorInPlace(inverseFactor, size, problem.multiply);
  if (problem.unitCount === size) {
    const norms = columnSums(problem.scoredWeight ?? problem.weight, 'squares');
    const diagonal = squaredRowNorms(inverseFactor, size);
    const scores = new Float64Array(size);
    for (let j = 0; j < size; j++) scores[problem.unitOfChannel[j]!] = norms[j]! / diagonal[j]!;
    return scores;
  }
  const scores = new Float64Array(problem.unitCount);
  for (const [unit, channels] of channelsOfUnits(problem).entries()) {
    const inverse = inverseBlock(inverseFactor, size, channels);
    scores[unit] = await removalError(
      pickColumns(problem.scoredWeight ?? problem.weight, channels),
      inverse,
      channels.length,
    );
  }
  return scores;
}

/** `[H^-1]_PP` from the transposed inverse factor. */
function inverseBlock(inverseFactor: Float64Array, size: number, channels: Int32Array): Float64Array {
  const rows = pickRows(inverseFactor, size, channels);
  return multiplyTransposed(rows, rows, { rows: channels.length, columns: channels.length, inner: size });
}

/** `trace(W_P (inverse)^-1 W_P^T)`; overwrites `inverse` with its Cholesky factor. */
export async function removalError(columns: Float64Array, inverse: Float64Array, size: number): Promise<number> {
  await choleskyInPlace(inverse, size);
  const solved = columns.slice();
  await solveRowsInPlace(inverse, solved, { size });
  let sum = 0;
  for (let i = 0; i < solved.length; i++) sum += solved[i]! * columns[i]!;
  return sum;
}
