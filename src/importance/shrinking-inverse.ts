import { choleskyInPlace, halfSolveRowsInPlace } from '../linalg/cholesky.js';
import { pickSubmatrix } from '../linalg/matrix-block.js';
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
  /** `[rowCount, size]` row-major; overwritten. */
  readonly weight: Float64Array;
  readonly size: number;
  readonly rowCount: number;
  readonly multiply: MultiplyTransposed;
}

/** A Schur update that waits: the inverse is to lose `half · halfᵀ`. */
interface WaitingUpdate {
  /** `[size, count]` row-major. */
  readonly half: Float64Array;
  readonly count: number;
}

/**
 * Channels that leave before the inverse is written anew. Writing it is what takes time, and a product of many columns is
 * quicker than many of few; more would have the columns that are asked for in between cost as much.
 */
const MOST_WAITING = 256;

/**
 * When the channels P go, with `U` their columns of `H^-1`, `L Lᵀ = [H^-1]_PP` and `Y = U L⁻ᵀ`: `H^-1` loses `Y Yᵀ`, and the
 * weight `Z Yᵀ` with `Z = W_P L⁻ᵀ`, which adds the error `||Z||^2`. Weight and diagonal are kept up to date, the rest of the
 * inverse a few updates behind.
 *
 * @see Hassibi & Stork, NIPS 1993
 */
export function createShrinkingInverse({ multiply, rowCount, ...start }: ShrinkingStart): ShrinkingInverse {
  let { inverse, weight, size } = start;
  /** Where a channel's column is now; -1 once it is gone. */
  const positionOf = Int32Array.from({ length: size }, (_, channel) => channel);
  let waiting: WaitingUpdate[] = [];
  let diagonal = diagonalOf(inverse, size);
  let norms = squaredColumnNorms(weight, size);

  /** Columns of the inverse as it is now, `[size, columns.length]`. */
  async function columnsNow(columns: Int32Array): Promise<Float64Array> {
    const picked = pickSubmatrix(inverse, size, { rows: range(size), columns });
    for (const { half, count } of waiting) {
      const right = pickSubmatrix(half, count, { rows: columns, columns: range(count) });
      subtractInPlace(picked, await multiply(half, right, { rows: size, columns: columns.length, inner: count }));
    }
    return picked;
  }

  /** Writes what waits into the inverse and leaves out what is gone. */
  async function settle(): Promise<void> {
    const stay = range(size).filter((position) => diagonal[position]! > Number.NEGATIVE_INFINITY);
    const count = waiting.reduce((sum, update) => sum + update.count, 0);
    const joined = new Float64Array(stay.length * count);
    let from = 0;
    for (const { half, count: width } of waiting) {
      stay.forEach((position, row) => {
        joined.set(half.subarray(position * width, (position + 1) * width), row * count + from);
      });
      from += width;
    }
    inverse = pickSubmatrix(inverse, size, { rows: stay, columns: stay });
    const shape = { rows: stay.length, columns: stay.length, inner: count };
    subtractInPlace(inverse, await multiply(joined, joined, shape));
    weight = pickSubmatrix(weight, size, { rows: range(rowCount), columns: stay });
    const moved = new Int32Array(size).fill(-1);
    stay.forEach((position, at) => {
      moved[position] = at;
    });
    positionOf.forEach((position, channel) => {
      positionOf[channel] = position < 0 ? -1 : moved[position]!;
    });
    norms = norms.filter((_, position) => moved[position]! >= 0);
    size = stay.length;
    diagonal = diagonalOf(inverse, size);
    waiting = [];
  }

  return {
    async errorOf(channels) {
      // Channels that leave together ask for more than the diagonal.
      if (channels.length > 1 && waiting.length > 0) await settle();
      const positions = channels.map((channel) => positionOf[channel]!);
      const [only = 0] = positions;
      if (positions.length === 1) return norms[only]! / diagonal[only]!;
      const columns = pickSubmatrix(weight, size, { rows: range(rowCount), columns: positions });
      const block = pickSubmatrix(inverse, size, { rows: positions, columns: positions });
      return removalError(columns, block, positions.length);
    },
    async remove(channels) {
      const gone = channels.map((channel) => positionOf[channel]!);
      const count = gone.length;
      const half = await columnsNow(gone);
      const lower = pickSubmatrix(half, count, { rows: gone, columns: range(count) });
      await choleskyInPlace(lower, count, multiply);
      await halfSolveRowsInPlace(lower, half, { size: count, multiply });
      const columns = pickSubmatrix(weight, size, { rows: range(rowCount), columns: gone });
      await halfSolveRowsInPlace(lower, columns, { size: count, multiply });
      subtractInPlace(weight, await multiply(columns, half, { rows: rowCount, columns: size, inner: count }));
      norms = squaredColumnNorms(weight, size);
      for (let position = 0; position < size; position++) {
        for (let at = position * count; at < (position + 1) * count; at++) diagonal[position]! -= half[at]! ** 2;
      }
      for (const position of gone) diagonal[position] = Number.NEGATIVE_INFINITY;
      waiting.push({ half, count });
      if (waiting.reduce((sum, update) => sum + update.count, 0) >= MOST_WAITING) await settle();
      return columns.reduce((sum, value) => sum + value * value, 0);
    },
  };
}

const range = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);

const diagonalOf = (matrix: Float64Array, size: number): Float64Array =>
  Float64Array.from({ length: size }, (_, at) => matrix[at * size + at]!);

function squaredColumnNorms(matrix: Float64Array, columnCount: number): Float64Array {
  const norms = new Float64Array(columnCount);
  for (let start = 0; start < matrix.length; start += columnCount) {
    for (let column = 0; column < columnCount; column++) norms[column]! += matrix[start + column]! ** 2;
  }
  return norms;
}

function subtractInPlace(matrix: Float64Array, values: Float64Array): void {
  for (let at = 0; at < matrix.length; at++) matrix[at]! -= values[at]!;
}
