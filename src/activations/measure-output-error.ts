import type { ChannelStatistics, Compensated, LinearWeight } from '../compensation/adapter.js';
import { copyColumns } from '../linalg/matrix-block.js';
import type { Engine } from '../runtime/engine.js';
import { createQuadraticForm, type Matrix, type QuadraticForm } from './quadratic-form.js';

/** Channels of an output projection that were scored together, before and after the repair. */
export interface RepairedChannels {
  readonly statistics: ChannelStatistics;
  /** `[out, channels]` before. */
  readonly weight: LinearWeight;
  /** Remaining channels, as ascending positions. */
  readonly remaining: Int32Array;
  readonly repaired: Pick<Compensated, 'weight' | 'bias' | 'regained'>;
}

/**
 * Relative error of an output projection on the calibration tokens: `E|W h - W' h - b|² / E|W h|²`, with W the weight, h the
 * input, W' and b the repaired layer (columns of removed channels zero). Errors of function groups are measured with their
 * token weights and added; the shared group is not measured.
 */
export interface OutputError {
  /** With channels removed, without repair. */
  readonly before: number;
  /** With the repair. */
  readonly after: number;
  /**
   * `gram`: exact, `tr(D (A - μμᵀ) Dᵀ) + |D μ - b|²` with D = W - W' and A the Gram matrix. `moments`: only means and
   * variances were measured, so channels are assumed to be independent. `tokens`: of a mixture's result, summed over tokens
   * that its repair did not learn from.
   */
  readonly basis: 'gram' | 'moments' | 'tokens';
}

/** Computes output errors, in a session that `release` frees. */
export interface ErrorMeter {
  /**
   * Adds the errors of groups, each with its token weights, as if they were independent: no Gram matrix covers two groups.
   * Channels in no group are ignored.
   * @returns undefined without statistics, or when the linear layer's result is zero.
   */
  measure(groups: readonly RepairedChannels[]): Promise<OutputError | undefined>;
  release(): Promise<void>;
}

/** Prepares to measure output errors; the products run in the engine. */
export async function createErrorMeter(engine: Engine): Promise<ErrorMeter> {
  const form = await createQuadraticForm(engine);
  return {
    async measure(groups) {
      const total = { original: 0, before: 0, after: 0 };
      for (const group of groups) {
        if (group.statistics.tokenCount === 0) return undefined;
        const found = await squaredErrors(group, form);
        total.original += found.original;
        total.before += found.before;
        total.after += found.after;
      }
      if (!(total.original > 0)) return undefined;
      const basis = groups.every(({ statistics }) => statistics.gram !== undefined) ? 'gram' : 'moments';
      return { before: total.before / total.original, after: total.after / total.original, basis };
    },
    release: () => form.release(),
  };
}

/** Mean squares over the tokens: of `W h`, of its part from removed channels, and of the error after the repair. */
async function squaredErrors({ statistics, weight, remaining, repaired }: RepairedChannels, form: QuadraticForm) {
  const original = rowMajor(weight);
  const meanSquare = async (matrix: Matrix, bias?: Float64Array): Promise<number> => {
    const used = usedColumns(matrix);
    const spread =
      statistics.gram === undefined
        ? independentSpread(matrix, statistics.variance)
        : await form.trace(narrow(matrix, used), (start, end) => covarianceRows(statistics, used, { start, end }));
    return spread + squaredNorm(outputOfMean(matrix, statistics.mean, bias));
  };
  const remains = new Uint8Array(original.columns);
  for (const channel of remaining) remains[channel] = 1;
  const removed = {
    ...original,
    values: original.values.map((value, at) => (remains[at % original.columns] === 1 ? 0 : value)),
  };
  const before = await meanSquare(removed);
  const { bias, regained } = repaired;
  const measureAfter = async () => {
    if (repaired.weight === undefined && bias === undefined) return before;
    // Rounding may make a repaired error slightly negative.
    if (regained !== undefined && bias === undefined) return Math.max(0, before - regained);
    return meanSquare(differenceAfter(removed, { original, remaining, repaired }), bias);
  };
  return { original: await meanSquare(original), before, after: await measureAfter() };
}

/** Difference of the unpruned layer and the repaired one: the removed columns, and the changes of the remaining ones. */
function differenceAfter(
  removed: Matrix,
  { original, remaining, repaired }: Pick<RepairedChannels, 'remaining' | 'repaired'> & { readonly original: Matrix },
): Matrix {
  if (repaired.weight === undefined) return removed;
  const values = removed.values.slice();
  for (let row = 0; row < original.rows; row++) {
    remaining.forEach((channel, at) => {
      const place = row * original.columns + channel;
      values[place] = original.values[place]! - repaired.weight![row * remaining.length + at]!;
    });
  }
  return { ...original, values };
}

const rowMajor = (weight: LinearWeight): Matrix =>
  pickColumns(
    weight,
    Array.from({ length: weight.shape[1] ?? 0 }, (_, column) => column),
  );

/** Columns that are not zero. */
function usedColumns({ rows, columns, values }: Matrix): Int32Array {
  const isUsed = new Uint8Array(columns);
  for (let at = 0; at < rows * columns; at++) if (values[at] !== 0) isUsed[at % columns] = 1;
  return Int32Array.from({ length: columns }, (_, column) => column).filter((column) => isUsed[column] === 1);
}

function pickColumns(from: Parameters<typeof copyColumns>[0], columns: ArrayLike<number>): Matrix {
  const [rows = 0] = from.shape;
  const values = copyColumns(from, columns, new Float32Array(rows * columns.length));
  return { rows, columns: columns.length, values };
}

function narrow(matrix: Matrix, used: Int32Array): Matrix {
  const { rows, columns, values } = matrix;
  if (used.length === columns) return matrix;
  return pickColumns({ data: values, offset: 0, shape: [rows, columns], stride: [columns, 1] }, used);
}

/**
 * Rows `start` to `end` of `A - mean meanᵀ` for some channels, from column `start` on. Subtracted in float64, since means can
 * be much larger than fluctuations.
 */
function covarianceRows(
  { gram, mean }: ChannelStatistics,
  channels: Int32Array,
  { start, end }: { readonly start: number; readonly end: number },
): Float32Array<ArrayBuffer> {
  const count = channels.length - start;
  const rows = new Float32Array((end - start) * count);
  for (let row = start; row < end; row++) {
    const one = channels[row]!;
    for (let at = 0; at < count; at++) {
      const other = channels[start + at]!;
      rows[(row - start) * count + at] = gram![one * mean.length + other]! - mean[one]! * mean[other]!;
    }
  }
  return rows;
}

function independentSpread({ rows, columns, values }: Matrix, variance: Float64Array): number {
  let sum = 0;
  for (let at = 0; at < rows * columns; at++) sum += values[at]! ** 2 * variance[at % columns]!;
  return sum;
}

function outputOfMean({ rows, columns, values }: Matrix, mean: Float64Array, bias?: Float64Array): Float64Array {
  const output = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    let sum = -(bias?.[row] ?? 0);
    for (let column = 0; column < columns; column++) sum += values[row * columns + column]! * mean[column]!;
    output[row] = sum;
  }
  return output;
}

function squaredNorm(vector: Float64Array): number {
  return vector.reduce((sum, value) => sum + value * value, 0);
}
