import { choleskyInPlace, halfSolveRowsInPlace } from '../linalg/cholesky.js';
import { pickRows, pickSubmatrix, squaredRowNorms, transposeMatrix } from '../linalg/matrix-block.js';
import { multiplySymmetric } from '../linalg/multiply-symmetric.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { removalError } from './obc.js';

/** A weight and the inverse Hessian of its inputs, while channels leave and the others are repaired. */
export interface ShrinkingInverse {
  /** Squared error that is left when some channels alone go now: `trace(W_P ([H^-1]_PP)^-1 W_P^T)`. */
  errorOf(channels: Int32Array): Promise<number>;
  /** Takes channels out and repairs the others. @returns The squared error that this adds. */
  remove(channels: Int32Array): Promise<number>;
}

export interface ShrinkingStart {
  /** `H^-1`, `[size, size]` row-major. */
  readonly inverse: Float64Array;
  /** `[rowCount, size]` row-major. */
  readonly weight: Float64Array;
  readonly size: number;
  readonly rowCount: number;
  readonly multiply: MultiplyTransposed;
}

/**
 * Channels removed before inverse and weight are rewritten. Rewriting takes the time, and one product of many columns is
 * faster than many of few. With more of them, reading columns in between would cost as much.
 */
const MOST_WAITING = 256;

/**
 * When the channels P go, with `U` their columns of `H^-1`, `L Lᵀ = [H^-1]_PP` and `Y = U L⁻ᵀ`: `H^-1` loses `Y Yᵀ`, and the
 * weight `Z Yᵀ` with `Z = W_P L⁻ᵀ`, which adds the error `||Z||^2`. The inverse's diagonal and the lengths of the weight's
 * columns are kept up to date, the rest a few updates behind.
 *
 * @see Hassibi & Stork, NIPS 1993
 */
export function createShrinkingInverse({ multiply, rowCount, ...start }: ShrinkingStart): ShrinkingInverse {
  let { inverse, size } = start;
  /** `Wᵀ`, so that its remaining part is contiguous. */
  let columns = transposeMatrix(start.weight, rowCount, size);
  /** Where a channel's column is now; -1 once it is gone. */
  const positionOf = Int32Array.from({ length: size }, (_, channel) => channel);
  let waiting = noUpdates(size, rowCount, roomFor(0));
  let diagonal = diagonalOf(inverse, size);
  let norms = squaredRowNorms(columns, rowCount);

  /** Channels whose updates may wait: no more than there are, but at least as many as must. */
  function roomFor(least: number): number {
    return Math.max(least, Math.min(MOST_WAITING, size));
  }

  /** Applies pending updates, drops removed channels, and makes room for updates of at least so many channels. */
  async function settle(least: number): Promise<void> {
    const stay = range(size).filter((position) => diagonal[position]! > Number.NEGATIVE_INFINITY);
    const { halves, solved, capacity } = waiting;
    const left = pickRows(halves, capacity, stay);
    inverse = pickSubmatrix(inverse, size, { rows: stay, columns: stay });
    subtractInPlace(inverse, await multiplySymmetric(left, { size: stay.length, inner: capacity, multiply }));
    columns = pickRows(columns, rowCount, stay);
    subtractInPlace(columns, await multiply(left, solved, { rows: stay.length, columns: rowCount, inner: capacity }));
    const moved = new Int32Array(size).fill(-1);
    stay.forEach((position, at) => {
      moved[position] = at;
    });
    positionOf.forEach((position, channel) => {
      positionOf[channel] = position < 0 ? -1 : moved[position]!;
    });
    size = stay.length;
    diagonal = diagonalOf(inverse, size);
    norms = squaredRowNorms(columns, rowCount);
    waiting = noUpdates(size, rowCount, roomFor(least));
  }

  /** `Y` of some channels, and the factor `L` that it took. */
  async function halveInverse(gone: Int32Array) {
    const { halves, capacity } = waiting;
    const count = gone.length;
    // Columns of a symmetric matrix are its rows, which lie together.
    const half = transposeMatrix(pickRows(inverse, size, gone), count, size);
    const shape = { rows: size, columns: count, inner: capacity };
    subtractInPlace(half, await multiply(halves, pickRows(halves, capacity, gone), shape));
    const lower = pickRows(half, count, gone);
    await choleskyInPlace(lower, count, multiply);
    await halfSolveRowsInPlace(lower, half, { size: count, multiply });
    return { half, lower };
  }

  /** `Z` of some channels. */
  async function solveWeight(gone: Int32Array, lower: Float64Array): Promise<Float64Array> {
    const { halves, capacity } = waiting;
    const count = gone.length;
    const solved = transposeMatrix(pickRows(columns, rowCount, gone), count, rowCount);
    const shape = { rows: rowCount, columns: count, inner: capacity };
    subtractInPlace(solved, await multiply(waiting.solved, pickRows(halves, capacity, gone), shape));
    await halfSolveRowsInPlace(lower, solved, { size: count, multiply });
    return solved;
  }

  /** Keeps diagonal and lengths up to date: a column w loses `Z y`, and of its squared length `2 (Zᵀ w) y - (Zᵀ Z y) y`. */
  async function follow({ half, solvedRows, count }: Update): Promise<void> {
    const { halves, capacity } = waiting;
    const shared = await multiply(columns, solvedRows, { rows: size, columns: count, inner: rowCount });
    const behind = await multiply(solvedRows, waiting.solvedRows, { rows: count, columns: capacity, inner: rowCount });
    subtractInPlace(shared, await multiply(halves, behind, { rows: size, columns: count, inner: capacity }));
    const own = await multiply(solvedRows, solvedRows, { rows: count, columns: count, inner: rowCount });
    const lost = await multiply(half, own, { rows: size, columns: count, inner: count });
    for (let position = 0; position < size; position++) {
      let shorter = 0;
      for (let at = position * count; at < (position + 1) * count; at++) {
        shorter += half[at]! * (2 * shared[at]! - lost[at]!);
        diagonal[position]! -= half[at]! ** 2;
      }
      // Rounding may make the squared length of a zero column slightly negative.
      norms[position] = Math.max(0, norms[position]! - shorter);
    }
  }

  return {
    async errorOf(channels) {
      // Channels that leave together ask for more than the diagonal.
      if (channels.length > 1 && waiting.count > 0) await settle(0);
      const positions = channels.map((channel) => positionOf[channel]!);
      const [only = 0] = positions;
      if (positions.length === 1) return norms[only]! / diagonal[only]!;
      const block = pickSubmatrix(inverse, size, { rows: positions, columns: positions });
      const count = positions.length;
      return removalError(transposeMatrix(pickRows(columns, rowCount, positions), count, rowCount), block, count);
    },
    async remove(channels) {
      const count = channels.length;
      if (waiting.count + count > waiting.capacity) await settle(count);
      const gone = channels.map((channel) => positionOf[channel]!);
      const { half, lower } = await halveInverse(gone);
      const solved = await solveWeight(gone, lower);
      const update = { half, solved, solvedRows: transposeMatrix(solved, rowCount, count), count };
      await follow(update);
      for (const position of gone) diagonal[position] = Number.NEGATIVE_INFINITY;
      addUpdate(waiting, update);
      if (waiting.count >= waiting.capacity) await settle(0);
      return solved.reduce((sum, value) => sum + value * value, 0);
    },
  };
}

/** Updates that wait, side by side; zero where there is none yet. */
interface WaitingUpdates {
  /** `Y`, `[size, capacity]`. */
  readonly halves: Float64Array;
  /** `Z`, `[rowCount, capacity]`. */
  readonly solved: Float64Array;
  /** `Zᵀ`. */
  readonly solvedRows: Float64Array;
  readonly capacity: number;
  count: number;
}

const noUpdates = (size: number, rowCount: number, capacity: number): WaitingUpdates => ({
  halves: new Float64Array(size * capacity),
  solved: new Float64Array(rowCount * capacity),
  solvedRows: new Float64Array(capacity * rowCount),
  capacity,
  count: 0,
});

interface Update {
  /** `Y`, `[size, count]`. */
  readonly half: Float64Array;
  /** `Z`, `[rowCount, count]`, and `Zᵀ`. */
  readonly solved: Float64Array;
  readonly solvedRows: Float64Array;
  readonly count: number;
}

function addUpdate(waiting: WaitingUpdates, { half, solved, solvedRows, count }: Update): void {
  const { capacity } = waiting;
  for (const [side, added] of [
    [waiting.halves, half],
    [waiting.solved, solved],
  ] as const) {
    for (let from = 0, to = waiting.count; from < added.length; from += count, to += capacity)
      side.set(added.subarray(from, from + count), to);
  }
  waiting.solvedRows.set(solvedRows, waiting.count * (solvedRows.length / count));
  waiting.count += count;
}

const range = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);

const diagonalOf = (matrix: Float64Array, size: number): Float64Array =>
  Float64Array.from({ length: size }, (_, at) => matrix[at * size + at]!);

function subtractInPlace(matrix: Float64Array, values: Float64Array): void {
  for (let at = 0; at < matrix.length; at++) matrix[at]! -= values[at]!;
}
