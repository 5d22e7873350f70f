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
    const norms = columnSums(problem.scoredWeight ?? problem.weight, 'squares');
    const scores = new Float64Array(size);
    for (let j = 0; j < size; j++)
      scores[problem.unitOfChannel[j]!] = norms[j]! / squaredRowNorm(inverseFactor, size, j);
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

/** An order of removal with what each removal costs. */
export interface RemovalOrder {
  /** Importance by unit: the error piled up until its turn, so that removing the lowest scores repeats the order. */
  readonly scores: Float64Array;
  /** Error that the n-th removal adds, never falling; they add up to the error of removing all. */
  readonly costs: Float64Array;
}

/**
 * Iterative OBC: removes the `step` cheapest units, repairs the weight, scores anew, until none is left. The order is
 * that of rising scores. What a step costs is exact, the error of its units together; it is shared out in proportion to
 * what each would cost alone.
 *
 * Costs about `channelCount^2 (channelCount / 3 + out / 2)` products however large the step.
 *
 * @param step Units removed between two updates, at least 1.
 * @see OBC (Frantar & Alistarh, NeurIPS 2022, arXiv 2208.11580); structured form: ZipLM
 */
export async function orderByObc(problem: ImportanceProblem, hessian: Hessian, step: number): Promise<RemovalOrder> {
  const { multiply = multiplyTransposed } = problem;
  let { size } = hessian;
  const factor = await invertFactorTransposed(hessian.lower, size, multiply);
  let inverse = await multiply(factor, factor, { rows: size, columns: size, inner: size });
  let weight = pickColumns(problem.scoredWeight ?? problem.weight, range(size));
  const rowCount = problem.weight.shape[0]!;
  /** Units left, with the positions of their channels in what is left of the matrices. */
  let left = channelsOfUnits(problem).map((channels, unit) => ({ unit, channels }));
  const scores = new Float64Array(problem.unitCount);
  const costs: number[] = [];
  let [highest, piledUp] = [0, 0];
  while (left.length > 0) {
    const norms = squaredColumnNorms(weight, size);
    const errors = new Map<number, number>();
    for (const { unit, channels } of left) {
      const [only = 0] = channels;
      errors.set(
        unit,
        channels.length === 1
          ? norms[only]! / inverse[only * size + only]!
          : await blockError(weight, inverse, { size, channels }),
      );
    }
    const ranked = [...left].sort((a, b) => errors.get(a.unit)! - errors.get(b.unit)! || a.unit - b.unit);
    const removed = ranked.slice(0, step);
    const gone = Int32Array.from(removed.flatMap(({ channels }) => [...channels]));
    const stay = range(size).filter((channel) => !gone.includes(channel));
    // With H^-1 in blocks of what goes (P) and stays (S): what is left is H^-1_SS - X U', X = U (H^-1_PP)^-1, U = H^-1_SP.
    const lower = pickSubmatrix(inverse, size, { rows: gone, columns: gone });
    await choleskyInPlace(lower, gone.length, multiply);
    const coupling = pickSubmatrix(inverse, size, { rows: stay, columns: gone });
    const columns = pickSubmatrix(weight, size, { rows: range(rowCount), columns: gone });
    const solved = columns.slice();
    await solveRowsInPlace(lower, solved, { size: gone.length, multiply });
    const together = solved.reduce((sum, value, at) => sum + value * columns[at]!, 0);
    const apart = removed.reduce((sum, { unit }) => sum + errors.get(unit)!, 0);
    for (const { unit } of removed) {
      const error = errors.get(unit)! * (apart > 0 ? together / apart : 1);
      highest = Math.max(highest, error);
      piledUp += error;
      scores[unit] = piledUp;
      costs.push(highest);
    }
    const shape = { columns: stay.length, inner: gone.length };
    const fromWeight = await multiply(solved, coupling, { ...shape, rows: rowCount });
    weight = pickAndSubtract(weight, size, { rows: range(rowCount), columns: stay, subtract: fromWeight });
    const factors = coupling.slice();
    await solveRowsInPlace(lower, factors, { size: gone.length, multiply });
    const fromInverse = await multiply(factors, coupling, { ...shape, rows: stay.length });
    inverse = pickAndSubtract(inverse, size, { rows: stay, columns: stay, subtract: fromInverse });
    const positionOf = new Int32Array(size).fill(-1);
    stay.forEach((channel, position) => {
      positionOf[channel] = position;
    });
    left = ranked
      .slice(step)
      .map(({ unit, channels }) => ({ unit, channels: channels.map((channel) => positionOf[channel]!) }))
      .sort((a, b) => a.unit - b.unit);
    size = stay.length;
  }
  return { scores, costs: Float64Array.from(costs) };
}

interface Shrinking {
  readonly rows: Int32Array;
  readonly columns: Int32Array;
  /** Dense `[rows, columns]`. */
  readonly subtract: Float64Array;
}

/** `matrix[rows, columns] - subtract`, in one pass over what may be many megabytes. */
function pickAndSubtract(
  matrix: Float64Array,
  columnCount: number,
  { rows, columns, subtract }: Shrinking,
): Float64Array {
  const picked = new Float64Array(subtract.length);
  let at = 0;
  for (let row = 0; row < rows.length; row++) {
    const from = rows[row]! * columnCount;
    for (let column = 0; column < columns.length; column++, at++) {
      picked[at] = matrix[from + columns[column]!]! - subtract[at]!;
    }
  }
  return picked;
}

const range = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);

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
  const columns = pickSubmatrix(weight, size, { rows: range(weight.length / size), columns: channels });
  return removalError(columns, pickSubmatrix(inverse, size, { rows: channels, columns: channels }), channels.length);
}
