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
 * Removed channels whose updates are applied to inverse and weight together: one large product is faster than many small
 * ones. With larger batches, correcting the columns that are read in between would cost as much.
 */
const MAX_PENDING = 256;

/** Rows of `Wᵀ` that are updated at once. */
const STRIP = 1024;

/**
 * When the channels P are removed, with `U` their columns of `H^-1`, `L Lᵀ = [H^-1]_PP` and `Y = U L⁻ᵀ`: `H^-1` loses
 * `Y Yᵀ`, and the weight `Z Yᵀ` with `Z = W_P L⁻ᵀ`, which adds the error `||Z||^2`. The inverse's diagonal and the
 * lengths of the weight's columns are always up to date; updates of the rest are pending. Single precision is enough for
 * the weight, since no system is solved with it.
 *
 * @see Hassibi & Stork, NIPS 1993
 */
export function createShrinkingInverse({ multiply, rowCount, ...start }: ShrinkingStart): ShrinkingInverse {
  let { inverse, columns, size } = start;
  /** Current position of a channel's column; -1 once removed. */
  const positionOf = Int32Array.from({ length: size }, (_, channel) => channel);
  let pending = noUpdates(size, rowCount, capacityFor(0));
  let diagonal = diagonalOf(inverse, size);
  let norms = squaredRowNorms(columns, rowCount);

  /** Number of channels that may have pending updates. */
  function capacityFor(least: number): number {
    return Math.max(least, Math.min(MAX_PENDING, size));
  }

  /** Applies pending updates, drops removed channels, and makes room for updates of at least `least` channels. */
  async function applyPending(least: number): Promise<void> {
    const remaining = range(size).filter((position) => diagonal[position]! > Number.NEGATIVE_INFINITY);
    const { halves, solved, capacity } = pending;
    const halvesLeft = pickRows(halves, capacity, remaining);
    inverse = keepLower(inverse, size, remaining);
    const update = { size: remaining.length, start: 0, end: remaining.length, inner: capacity, multiply };
    await subtractSymmetric(inverse, halvesLeft, update);
    columns = keepRows(columns, rowCount, remaining);
    for (let row = 0; row < remaining.length; row += STRIP) {
      const strip = new Float32Array(halvesLeft.subarray(row * capacity, (row + STRIP) * capacity));
      const shape = { rows: strip.length / capacity, columns: rowCount, inner: capacity };
      const change = await multiply(strip, solved, shape);
      for (let at = 0, to = row * rowCount; at < change.length; at++, to++) columns[to]! -= change[at]!;
      freeBytes(strip, change);
    }
    freeBytes(halvesLeft);
    const newPosition = new Int32Array(size).fill(-1);
    remaining.forEach((position, at) => {
      newPosition[position] = at;
    });
    positionOf.forEach((position, channel) => {
      positionOf[channel] = position < 0 ? -1 : newPosition[position]!;
    });
    size = remaining.length;
    diagonal = diagonalOf(inverse, size);
    norms = squaredRowNorms(columns, rowCount);
    pending = noUpdates(size, rowCount, capacityFor(least));
  }

  /** `Y` of removed channels (`half`), and their factor `L`. */
  async function solveInverse(removed: Int32Array) {
    const { halves, capacity } = pending;
    const count = removed.length;
    const half = pickSymmetricColumns(inverse, size, removed);
    const shape = { rows: size, columns: count, inner: capacity };
    subtractInPlace(half, await multiply(halves, pickRows(halves, capacity, removed), shape));
    const lower = pickRows(half, count, removed);
    await choleskyInPlace(lower, count, multiply);
    await halfSolveRowsInPlace(lower, half, { size: count, multiply });
    return { half, lower };
  }

  /** `Z` of removed channels. */
  async function solveWeight(removed: Int32Array, lower: Float64Array): Promise<Float32Array> {
    const { halves, capacity } = pending;
    const count = removed.length;
    const solved = transposeMatrix(pickRows(columns, rowCount, removed), count, rowCount);
    const shape = { rows: rowCount, columns: count, inner: capacity };
    const pendingHalves = new Float32Array(pickRows(halves, capacity, removed));
    subtractInPlace(solved, new Float64Array(await multiply(pending.solved, pendingHalves, shape)));
    await halfSolveRowsInPlace(lower, solved, { size: count, multiply });
    return new Float32Array(solved);
  }

  /** Updates diagonal and squared lengths: a column w becomes `w - Z y`, `2 (Zᵀ w) y - (Zᵀ Z y) y` shorter in square. */
  async function updateDiagonal({ half, solvedRows, count }: Update): Promise<void> {
    const { halves, capacity } = pending;
    // Zᵀ w is computed from columns without the pending updates, whose part is subtracted.
    const product = await multiply(columns, solvedRows, { rows: size, columns: count, inner: rowCount });
    const overlap = await multiply(solvedRows, pending.solvedRows, { rows: count, columns: capacity, inner: rowCount });
    const shape = { rows: size, columns: count, inner: capacity };
    const pendingPart = await multiply(halves, new Float64Array(overlap), shape);
    const square = await multiply(solvedRows, solvedRows, { rows: count, columns: count, inner: rowCount });
    const quadratic = await multiply(half, new Float64Array(square), { rows: size, columns: count, inner: count });
    for (let position = 0; position < size; position++) {
      let decrease = 0;
      for (let at = position * count; at < (position + 1) * count; at++) {
        decrease += half[at]! * (2 * (product[at]! - pendingPart[at]!) - quadratic[at]!);
        diagonal[position]! -= half[at]! ** 2;
      }
      // Rounding may make the squared length of a zero column slightly negative.
      norms[position] = Math.max(0, norms[position]! - decrease);
    }
    freeBytes(product, pendingPart, quadratic);
  }

  /** Error of several channels, which needs more than the diagonal. */
  async function jointError(channels: Int32Array): Promise<number> {
    if (pending.count > 0) await applyPending(0);
    const positions = channels.map((channel) => positionOf[channel]!);
    const block = pickSubmatrix(inverse, size, { rows: positions, columns: positions });
    const count = positions.length;
    return removalError(transposeMatrix(pickRows(columns, rowCount, positions), count, rowCount), block, count);
  }

  return {
    errorOf(channels) {
      if (channels.length > 1) return jointError(channels);
      const only = positionOf[channels[0]!]!;
      return norms[only]! / diagonal[only]!;
    },
    async remove(channels) {
      const count = channels.length;
      if (pending.count + count > pending.capacity) await applyPending(count);
      const removed = channels.map((channel) => positionOf[channel]!);
      const { half, lower } = await solveInverse(removed);
      const solved = await solveWeight(removed, lower);
      const update = { half, solved, solvedRows: transposeMatrix(solved, rowCount, count), count };
      await updateDiagonal(update);
      for (const position of removed) diagonal[position] = Number.NEGATIVE_INFINITY;
      addUpdate(pending, update);
      if (pending.count >= pending.capacity) await applyPending(0);
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

function addUpdate(pending: PendingUpdates, { half, solved, solvedRows, count }: Update): void {
  const { capacity } = pending;
  for (const [target, added] of [
    [pending.halves, half],
    [pending.solved, solved],
  ] as const) {
    for (let from = 0, to = pending.count; from < added.length; from += count, to += capacity)
      target.set(added.subarray(from, from + count), to);
  }
  pending.solvedRows.set(solvedRows, pending.count * (solvedRows.length / count));
  pending.count += count;
}

const range = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);

const diagonalOf = (matrix: Float64Array, size: number): Float64Array =>
  Float64Array.from({ length: size }, (_, at) => matrix[at * size + at]!);

/** Rows and columns of a symmetric matrix's lower triangle, moved to its beginning. */
function keepLower(matrix: Float64Array, size: number, remaining: Int32Array): Float64Array {
  const count = remaining.length;
  for (let row = 0; row < count; row++) {
    const [from, to] = [remaining[row]! * size, row * count];
    for (let column = 0; column <= row; column++) matrix[to + column] = matrix[from + remaining[column]!]!;
  }
  return matrix.subarray(0, count * count);
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
