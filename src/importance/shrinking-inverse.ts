import { freeBytes } from '../free-bytes.js';
import { choleskyInPlace, halfSolveRowsInPlace } from '../linalg/cholesky.js';
import { pickRows, pickSubmatrix, squaredRowNorms, transposeMatrix } from '../linalg/matrix-block.js';
import { subtractSymmetric } from '../linalg/multiply-symmetric.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { removalError } from './obc.js';

/** A weight and the inverse Hessian of its inputs, updated as channels are removed and the others repaired. */
export interface ShrinkingInverse {
  /** Squared error of removing only the given channels now: `trace(W_P ([H^-1]_PP)^-1 W_P^T)`. */
  errorOf(channels: Int32Array): number | Promise<number>;
  /** Removes channels and repairs the others. @returns the added squared error */
  remove(channels: Int32Array): Promise<number>;
}

export interface ShrinkingStart {
  /** `H^-1`, `[size, size]` row-major; only the lower triangle is read, and it is overwritten. */
  readonly inverse: Float64Array;
  /** `Wᵀ`, `[size, rowCount]` row-major, so that its remaining part is contiguous; overwritten. */
  readonly columns: Float32Array;
  readonly size: number;
  readonly rowCount: number;
  readonly multiply: MultiplyTransposed;
}

/**
 * Removed channels whose updates are batched before inverse and weight are rewritten: one large product is faster than
 * many small ones. With larger batches, reading columns in between would cost as much.
 */
const MAX_PENDING = 256;

/** Rows of the weight's columns that are rewritten at once. */
const STRIP = 1024;

/**
 * When the channels P are removed, with `U` their columns of `H^-1`, `L Lᵀ = [H^-1]_PP` and `Y = U L⁻ᵀ`: `H^-1` loses
 * `Y Yᵀ`, and the weight `Z Yᵀ` with `Z = W_P L⁻ᵀ`, which adds the error `||Z||^2`. The inverse's diagonal and the
 * lengths of the weight's columns are kept up to date, the rest lags by a few updates. The weight stays in single
 * precision, since no system is solved with it.
 *
 * @see Hassibi & Stork, NIPS 1993
 */
export function createShrinkingInverse({ multiply, rowCount, ...start }: ShrinkingStart): ShrinkingInverse {
  let { inverse, columns, size } = start;
  /** Current position of a channel's column; -1 once removed. */
  const positionOf = Int32Array.from({ length: size }, (_, channel) => channel);
  let waiting = noUpdates(size, rowCount, roomFor(0));
  let diagonal = diagonalOf(inverse, size);
  let norms = squaredRowNorms(columns, rowCount);

  /** Most channels with pending updates; limited by the number of channels. */
  function roomFor(least: number): number {
    return Math.max(least, Math.min(MAX_PENDING, size));
  }

  /** Applies pending updates, drops removed channels, and makes room for updates of at least so many channels. */
  async function settle(least: number): Promise<void> {
    const remaining = range(size).filter((position) => diagonal[position]! > Number.NEGATIVE_INFINITY);
    const { halves, solved, capacity } = waiting;
    const left = pickRows(halves, capacity, remaining);
    inverse = keepLower(inverse, size, remaining);
    const update = { size: remaining.length, start: 0, end: remaining.length, inner: capacity, multiply };
    await subtractSymmetric(inverse, left, update);
    columns = keepRows(columns, rowCount, remaining);
    for (let row = 0; row < remaining.length; row += STRIP) {
      const strip = new Float32Array(left.subarray(row * capacity, (row + STRIP) * capacity));
      const shape = { rows: strip.length / capacity, columns: rowCount, inner: capacity };
      const change = await multiply(strip, solved, shape);
      for (let at = 0, to = row * rowCount; at < change.length; at++, to++) columns[to]! -= change[at]!;
      freeBytes(strip, change);
    }
    freeBytes(left);
    const moved = new Int32Array(size).fill(-1);
    remaining.forEach((position, at) => {
      moved[position] = at;
    });
    positionOf.forEach((position, channel) => {
      positionOf[channel] = position < 0 ? -1 : moved[position]!;
    });
    size = remaining.length;
    diagonal = diagonalOf(inverse, size);
    norms = squaredRowNorms(columns, rowCount);
    waiting = noUpdates(size, rowCount, roomFor(least));
  }

  /** `Y` of some channels, and their factor `L`. */
  async function halveInverse(gone: Int32Array) {
    const { halves, capacity } = waiting;
    const count = gone.length;
    const half = pickSymmetricColumns(inverse, size, gone);
    const shape = { rows: size, columns: count, inner: capacity };
    subtractInPlace(half, await multiply(halves, pickRows(halves, capacity, gone), shape));
    const lower = pickRows(half, count, gone);
    await choleskyInPlace(lower, count, multiply);
    await halfSolveRowsInPlace(lower, half, { size: count, multiply });
    return { half, lower };
  }

  /** `Z` of some channels. */
  async function solveWeight(gone: Int32Array, lower: Float64Array): Promise<Float32Array> {
    const { halves, capacity } = waiting;
    const count = gone.length;
    const solved = transposeMatrix(pickRows(columns, rowCount, gone), count, rowCount);
    const shape = { rows: rowCount, columns: count, inner: capacity };
    const waited = new Float32Array(pickRows(halves, capacity, gone));
    subtractInPlace(solved, new Float64Array(await multiply(waiting.solved, waited, shape)));
    await halfSolveRowsInPlace(lower, solved, { size: count, multiply });
    return new Float32Array(solved);
  }

  /** Keeps diagonal and lengths up to date: a column w loses `Z y`, and of its squared length `2 (Zᵀ w) y - (Zᵀ Z y) y`. */
  async function follow({ half, solvedRows, count }: Update): Promise<void> {
    const { halves, capacity } = waiting;
    const shared = await multiply(columns, solvedRows, { rows: size, columns: count, inner: rowCount });
    const behind = await multiply(solvedRows, waiting.solvedRows, { rows: count, columns: capacity, inner: rowCount });
    const waited = { rows: size, columns: count, inner: capacity };
    const gone = await multiply(halves, new Float64Array(behind), waited);
    const own = await multiply(solvedRows, solvedRows, { rows: count, columns: count, inner: rowCount });
    const lost = await multiply(half, new Float64Array(own), { rows: size, columns: count, inner: count });
    for (let position = 0; position < size; position++) {
      let shorter = 0;
      for (let at = position * count; at < (position + 1) * count; at++) {
        shorter += half[at]! * (2 * (shared[at]! - gone[at]!) - lost[at]!);
        diagonal[position]! -= half[at]! ** 2;
      }
      // Rounding may make the squared length of a zero column slightly negative.
      norms[position] = Math.max(0, norms[position]! - shorter);
    }
    freeBytes(shared, gone, lost);
  }

  /** Error of several channels, which needs more than the diagonal. */
  async function errorTogether(channels: Int32Array): Promise<number> {
    if (waiting.count > 0) await settle(0);
    const positions = channels.map((channel) => positionOf[channel]!);
    const block = pickSubmatrix(inverse, size, { rows: positions, columns: positions });
    const count = positions.length;
    return removalError(transposeMatrix(pickRows(columns, rowCount, positions), count, rowCount), block, count);
  }

  return {
    errorOf(channels) {
      if (channels.length > 1) return errorTogether(channels);
      const only = positionOf[channels[0]!]!;
      return norms[only]! / diagonal[only]!;
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
      const [added = 0] = squaredRowNorms(solved, solved.length);
      freeBytes(half, lower, solved, update.solvedRows);
      return added;
    },
  };
}

/** Pending updates, column by column; zero where unused. */
interface PendingUpdates {
  /** `Y`, `[size, capacity]`. */
  readonly halves: Float64Array;
  /** `Z`, `[rowCount, capacity]`. */
  readonly solved: Float32Array;
  /** `Zᵀ`. */
  readonly solvedRows: Float32Array;
  readonly capacity: number;
  count: number;
}

const noUpdates = (size: number, rowCount: number, capacity: number): PendingUpdates => ({
  halves: new Float64Array(size * capacity),
  solved: new Float32Array(rowCount * capacity),
  solvedRows: new Float32Array(capacity * rowCount),
  capacity,
  count: 0,
});

interface Update {
  /** `Y`, `[size, count]`. */
  readonly half: Float64Array;
  /** `Z`, `[rowCount, count]`, and `Zᵀ`. */
  readonly solved: Float32Array;
  readonly solvedRows: Float32Array;
  readonly count: number;
}

function addUpdate(waiting: PendingUpdates, { half, solved, solvedRows, count }: Update): void {
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

/** Rows and columns of a symmetric matrix, moved to its beginning; what is above the diagonal is not. */
function keepLower(matrix: Float64Array, size: number, remaining: Int32Array): Float64Array {
  const left = remaining.length;
  for (let row = 0; row < left; row++) {
    const [from, to] = [remaining[row]! * size, row * left];
    for (let column = 0; column <= row; column++) matrix[to + column] = matrix[from + remaining[column]!]!;
  }
  return matrix.subarray(0, left * left);
}

/** Columns of a symmetric matrix, `[size, columns]`, of which only the lower triangle is read. */
function pickSymmetricColumns(matrix: Float64Array, size: number, columns: Int32Array): Float64Array {
  const picked = new Float64Array(size * columns.length);
  for (let row = 0, to = 0; row < size; row++) {
    for (let at = 0; at < columns.length; at++) {
      const column = columns[at]!;
      picked[to++] = matrix[column < row ? row * size + column : column * size + row]!;
    }
  }
  return picked;
}

/** Rows of a matrix with `width` columns, moved to its beginning. */
function keepRows(matrix: Float32Array, width: number, remaining: Int32Array): Float32Array {
  remaining.forEach((row, at) => {
    matrix.copyWithin(at * width, row * width, (row + 1) * width);
  });
  return matrix.subarray(0, remaining.length * width);
}

/** Subtracts values, which are freed, from the beginning of a matrix. */
function subtractInPlace(matrix: Float64Array, values: Float64Array): void {
  for (let at = 0; at < values.length; at++) matrix[at]! -= values[at]!;
  freeBytes(values);
}
