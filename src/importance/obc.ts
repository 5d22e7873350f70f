import type { ImportanceProblem } from '../compensation/adapter.js';
import { choleskyInPlace, invertFactorTransposed, solveRowsInPlace } from '../linalg/cholesky.js';
import { pickSubmatrix } from '../linalg/matrix-block.js';
import { multiplyTransposed } from '../linalg/multiply-transposed.js';
import { columnSums, pickColumns } from './column-sums.js';
import type { Hessian } from './hessian.js';
import { channelsOfUnits } from './units.js';

/**
 * Optimal Brain Compression: the squared error that is left after removing a unit and repairing the others,
 * `||W_:j||^2 / [H^-1]_jj` for a neuron and `trace(W_P ([H^-1]_PP)^-1 W_P^T)` for a head's channels P.
 *
 * @returns Length `unitCount`.
 * @see Hassibi & Stork, NIPS 1993; structured form: ZipLM (Kurtic et al., NeurIPS 2023, arXiv 2302.04089)
 */
export async function scoreByObc(problem: ImportanceProblem, hessian: Hessian): Promise<Float64Array> {
  const { size } = hessian;
  const inverseFactor = await invertFactorTransposed(hessian.lower, size, problem.multiply);
  if (problem.unitCount === size) {
    const norms = columnSums(problem.weight, 'squares');
    const scores = new Float64Array(size);
    for (let j = 0; j < size; j++)
      scores[problem.unitOfChannel[j]!] = norms[j]! / squaredRowNorm(inverseFactor, size, j);
    return scores;
  }
  const scores = new Float64Array(problem.unitCount);
  for (const [unit, channels] of channelsOfUnits(problem).entries()) {
    const inverse = inverseBlock(inverseFactor, size, channels);
    scores[unit] = await removalError(pickColumns(problem.weight, channels), inverse, channels.length);
  }
  return scores;
}

function squaredRowNorm(matrix: Float64Array, size: number, row: number): number {
  let sum = 0;
  for (let at = row * size; at < (row + 1) * size; at++) sum += matrix[at]! * matrix[at]!;
  return sum;
}

/** `[H^-1]_PP` from the transposed inverse factor. */
function inverseBlock(inverseFactor: Float64Array, size: number, channels: Int32Array): Float64Array {
  const rows = new Float64Array(channels.length * size);
  channels.forEach((channel, i) => {
    rows.set(inverseFactor.subarray(channel * size, (channel + 1) * size), i * size);
  });
  return multiplyTransposed(rows, rows, { rows: channels.length, columns: channels.length, inner: size });
}

/** `trace(W_P (inverse)^-1 W_P^T)`; overwrites `inverse` with its Cholesky factor. */
async function removalError(columns: Float64Array, inverse: Float64Array, size: number): Promise<number> {
  await choleskyInPlace(inverse, size);
  const solved = columns.slice();
  await solveRowsInPlace(inverse, solved, { size });
  let sum = 0;
  for (let i = 0; i < solved.length; i++) sum += solved[i]! * columns[i]!;
  return sum;
}

/**
 * Iterative OBC: removes the `step` cheapest units, repairs the weight, scores anew, until none is left.
 * A unit's score is the error piled up until its turn, so that removing the lowest scores repeats that order.
 * Costs `O(channelCount^2 (channelCount + out))` however large the step; one-shot scoring costs far less.
 *
 * @param step Units removed between two updates, at least 1.
 * @returns Length `unitCount`.
 */
export async function scoreByIterativeObc(
  problem: ImportanceProblem,
  hessian: Hessian,
  step: number,
): Promise<Float64Array> {
  const { size } = hessian;
  const factor = await invertFactorTransposed(hessian.lower, size, problem.multiply);
  const shape = { rows: size, columns: size, inner: size };
  const inverse = await (problem.multiply ?? multiplyTransposed)(factor, factor, shape);
  const weight = pickColumns(
    problem.weight,
    Int32Array.from({ length: size }, (_, channel) => channel),
  );
  const channelsOf = channelsOfUnits(problem);
  const scores = new Float64Array(problem.unitCount);
  let left = channelsOf.map((_, unit) => unit);
  let piledUp = 0;
  while (left.length > 0) {
    const errors = new Map<number, number>();
    const norms = squaredColumnNorms(weight, size);
    for (const unit of left) {
      const channels = channelsOf[unit]!;
      const [only] = channels;
      const error =
        channels.length === 1
          ? norms[only!]! / inverse[only! * size + only!]!
          : await blockError(weight, inverse, { size, channels });
      errors.set(unit, error);
    }
    const ranked = [...left].sort((a, b) => errors.get(a)! - errors.get(b)! || a - b);
    const removed = ranked.slice(0, step);
    for (const unit of removed) scores[unit] = piledUp + errors.get(unit)!;
    piledUp = scores[removed.at(-1)!]!;
    left = ranked.slice(step).sort((a, b) => a - b);
    if (left.length > 0) {
      const channels = Int32Array.from(removed.flatMap((unit) => [...channelsOf[unit]!]));
      await eliminate([weight, inverse], { inverse, size, channels });
    }
  }
  return scores;
}

function squaredColumnNorms(matrix: Float64Array, columnCount: number): Float64Array {
  const norms = new Float64Array(columnCount);
  for (let start = 0; start < matrix.length; start += columnCount) {
    for (let column = 0; column < columnCount; column++) norms[column]! += matrix[start + column]! ** 2;
  }
  return norms;
}

function blockError(
  weight: Float64Array,
  inverse: Float64Array,
  { size, channels }: { size: number; channels: Int32Array },
): Promise<number> {
  const rows = Int32Array.from({ length: weight.length / size }, (_, row) => row);
  const columns = pickSubmatrix(weight, size, { rows, columns: channels });
  return removalError(columns, pickSubmatrix(inverse, size, { rows: channels, columns: channels }), channels.length);
}

/** Takes channels P out of each matrix M: `M -= M_:P ([H^-1]_PP)^-1 [H^-1]_P:`. The inverse comes last, it is read. */
async function eliminate(
  matrices: readonly Float64Array[],
  { inverse, size, channels }: { inverse: Float64Array; size: number; channels: Int32Array },
): Promise<void> {
  const count = channels.length;
  const lower = pickSubmatrix(inverse, size, { rows: channels, columns: channels });
  await choleskyInPlace(lower, count);
  const every = Int32Array.from({ length: size }, (_, i) => i);
  const rowsOfInverse = pickSubmatrix(inverse, size, { rows: channels, columns: every });
  for (const matrix of matrices) {
    const rowCount = matrix.length / size;
    const rows = Int32Array.from({ length: rowCount }, (_, row) => row);
    const factors = pickSubmatrix(matrix, size, { rows, columns: channels });
    await solveRowsInPlace(lower, factors, { size: count });
    for (let row = 0; row < rowCount; row++) {
      for (let i = 0; i < count; i++) {
        const factor = factors[row * count + i]!;
        if (factor === 0) continue;
        const target = row * size;
        const source = i * size;
        for (let column = 0; column < size; column++)
          matrix[target + column]! -= factor * rowsOfInverse[source + column]!;
      }
    }
    // Exact zeros keep later updates from touching what is gone.
    for (let row = 0; row < rowCount; row++) for (const channel of channels) matrix[row * size + channel] = 0;
    if (matrix === inverse) for (const channel of channels) matrix.fill(0, channel * size, (channel + 1) * size);
  }
}
