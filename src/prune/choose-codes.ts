import type { QuadraticForm } from '../activations/quadratic-form.js';
import { freeBytes } from '../free-bytes.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import {
  type BlockCodes,
  type BlockGrid,
  dequantise,
  emptyCodes,
  type KnownScales,
  roundToNearest,
  type WeightRows,
} from '../quantisation/block-codes.js';
import { descendCodes, usesCoordinateDescent } from '../quantisation/coordinate-descent.js';
import {
  type FeedbackFactor,
  type FeedbackProblem,
  factoriseFeedback,
  roundWithFeedback,
} from '../quantisation/error-feedback.js';

/** Dampenings that may be tried, as fractions of the mean of the Hessian's diagonal. */
export const DAMPENINGS: readonly number[] = [0.01, 0.1];

/** A linear layer's weight, and statistics of its inputs. */
export interface CodesProblem {
  /** `[N, K]` row-major. */
  readonly weight: Float32Array;
  readonly outCount: number;
  readonly inCount: number;
  readonly grid: BlockGrid;
  /** See `FeedbackProblem`. */
  readonly known?: KnownScales | undefined;
  /** Gram matrices `[K, K]`, over the training tokens and over held-out tokens. */
  readonly learned: Float64Array;
  readonly heldOut: Float32Array<ArrayBuffer>;
}

/** A way of rounding a linear layer. */
export interface Rounding {
  /** Absent: rounding to the nearest level. */
  readonly dampening?: number;
  /** Coordinate descent improved the codes. */
  readonly usesDescent?: true;
  /** Weighted squared error at the linear layer's output on the held-out tokens, estimated from a sample of its rows. */
  readonly cost: number;
}

/** The codes of lowest cost on held-out tokens, and the cost of each way of rounding. */
export interface ChosenCodes {
  readonly codes: BlockCodes;
  readonly chosen: Rounding;
  readonly nearest: Rounding;
}

/** One of every `SAMPLE_STRIDE` rows is in the sample; all rows if these would be fewer than `MIN_ROWS`. */
const SAMPLE_STRIDE = 4;
const MIN_ROWS = 48;

/** Tools for choosing codes. */
export interface CodesTools {
  readonly form: QuadraticForm;
  readonly multiply: MultiplyTransposed;
}

/**
 * Tries ways of rounding a linear layer on a sample of its rows, which are independent of each other, and uses the best for all.
 * @param dampenings Dampenings to try besides rounding to the nearest levels.
 */
export async function chooseCodes(
  problem: CodesProblem,
  { form, multiply }: CodesTools,
  dampenings: readonly number[] = DAMPENINGS,
): Promise<ChosenCodes> {
  const { outCount, inCount, grid, heldOut } = problem;
  const stride = outCount < SAMPLE_STRIDE * MIN_ROWS ? 1 : SAMPLE_STRIDE;
  const isSampled = (row: number) => row % stride === 0;
  const sample = pickRows(problem, isSampled);
  const costOf = async (codes: BlockCodes): Promise<number> => {
    const values = dequantise(codes);
    for (let at = 0; at < values.length; at += 1) values[at] = sample.weight[at]! - values[at]!;
    const errors = { rows: sample.outCount, columns: inCount, values };
    const rowsOf = (start: number, end: number) => {
      const width = inCount - start;
      if (width === inCount && end === inCount) return heldOut;
      const rows = new Float32Array((end - start) * width);
      for (let row = start; row < end; row += 1)
        rows.set(heldOut.subarray(row * inCount + start, (row + 1) * inCount), (row - start) * width);
      return rows;
    };
    const cost = ((await form.trace(errors, rowsOf)) * outCount) / sample.outCount;
    freeBytes(values);
    return cost;
  };
  const hessian = { matrix: problem.learned, size: inCount };
  const nearestCodes = roundToNearest(sample.weight, sample);
  const nearest: Rounding = { cost: await costOf(nearestCodes) };
  let best: Tried = { codes: nearestCodes, chosen: nearest };
  for (const dampening of dampenings) {
    const factor = await factoriseFeedback(hessian, { dampening, multiply });
    const fed = await roundWithFeedback(sample, factor, multiply);
    let tried: Tried = { codes: fed, chosen: { dampening, cost: await costOf(fed) }, factor };
    if (usesCoordinateDescent(grid.bits)) {
      const codes = structuredClone(fed);
      await descendCodes(codes, sample.weight, hessian, { dampening, multiply });
      const cost = await costOf(codes);
      if (cost < tried.chosen.cost) tried = { codes, chosen: { dampening, usesDescent: true, cost }, factor };
    }
    const [better, worse] = tried.chosen.cost < best.chosen.cost ? [tried, best] : [best, tried];
    if (worse.factor !== undefined) freeBytes(worse.factor.feedback);
    best = better;
  }
  const { codes, chosen, factor } = best;
  const rest = pickRows(problem, (row) => !isSampled(row));
  const others =
    factor === undefined ? roundToNearest(rest.weight, rest) : await roundWithFeedback(rest, factor, multiply);
  const { dampening, usesDescent } = chosen;
  if (dampening !== undefined && usesDescent) await descendCodes(others, rest.weight, hessian, { dampening, multiply });
  freeBytes(sample.weight, rest.weight, ...(factor === undefined ? [] : [factor.feedback]));
  return { codes: joinRows(codes, others, isSampled), chosen, nearest };
}

/**
 * Chooses the codes of a weight some rows at a time, since the floats of an LM head may take a gigabyte.
 * @param parts All rows, in order.
 */
export async function chooseCodesInParts(
  parts: AsyncIterable<WeightRows>,
  problem: Omit<CodesProblem, 'weight'>,
  tools: CodesTools,
  dampenings: readonly number[],
): Promise<ChosenCodes> {
  const { grid, outCount, inCount, known } = problem;
  const codes = emptyCodes(grid, outCount, inCount);
  let [dampening, cost, nearestCost]: [number | undefined, number, number] = [undefined, 0, 0];
  for await (const { first, values } of parts) {
    const part = {
      ...problem,
      weight: values,
      outCount: values.length / inCount,
      known: known && ((row: number, block: number) => known(first + row, block)),
    };
    const { codes: rows, chosen, nearest } = await chooseCodes(part, tools, dampenings);
    for (let row = 0; row < part.outCount; row += 1) copyRow(codes, first + row, rows, row);
    dampening ??= chosen.dampening;
    cost += chosen.cost;
    nearestCost += nearest.cost;
  }
  return { codes, chosen: { ...(dampening !== undefined && { dampening }), cost }, nearest: { cost: nearestCost } };
}

/** Result of one rounding of the sample. */
interface Tried {
  readonly codes: BlockCodes;
  readonly chosen: Rounding;
  /** Absent for the nearest levels. */
  readonly factor?: FeedbackFactor;
}

/** Some rows of a problem. */
function pickRows(
  { weight, outCount, inCount, grid, known }: CodesProblem,
  isPicked: (row: number) => boolean,
): FeedbackProblem {
  const rows = Array.from({ length: outCount }, (_, row) => row).filter(isPicked);
  const picked = new Float32Array(rows.length * inCount);
  for (const [at, row] of rows.entries()) picked.set(weight.subarray(row * inCount, (row + 1) * inCount), at * inCount);
  return {
    weight: picked,
    outCount: rows.length,
    inCount,
    grid,
    known: known && ((row, block) => known(rows[row]!, block)),
  };
}

/** Joins picked rows and the others in their original order. */
function joinRows(picked: BlockCodes, others: BlockCodes, isPicked: (row: number) => boolean): BlockCodes {
  const { grid, inCount } = picked;
  const joined = emptyCodes(grid, picked.outCount + others.outCount, inCount);
  let [pickedRow, otherRow] = [0, 0];
  for (let row = 0; row < joined.outCount; row += 1) {
    if (isPicked(row)) copyRow(joined, row, picked, pickedRow++);
    else copyRow(joined, row, others, otherRow++);
  }
  return joined;
}

function copyRow(to: BlockCodes, row: number, from: BlockCodes, fromRow: number): void {
  for (const part of ['codes', 'scales', 'zeroPoints'] as const) {
    const [target, source] = [to[part], from[part]];
    if (target === undefined || source === undefined) continue;
    const width = target.length / to.outCount;
    target.set(source.subarray(fromRow * width, (fromRow + 1) * width), row * width);
  }
}
