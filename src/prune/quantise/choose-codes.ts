import type { QuadraticForm } from '../../activations/quadratic-form.js';
import type { MultiplyTransposed } from '../../linalg/multiply-transposed.js';
import { type BlockCodes, type BlockGrid, dequantise, roundToNearest } from '../../quantisation/block-codes.js';
import { factoriseFeedback, roundWithFeedback } from '../../quantisation/error-feedback.js';

/** Dampenings that are tried, as fractions of the mean of the Hessian's diagonal. */
const DAMPENINGS = [0.01, 0.1] as const;

/** A map's weight, and what is known of its inputs. */
export interface CodesProblem {
  /** `[N, K]` row-major. */
  readonly weight: Float32Array;
  readonly outCount: number;
  readonly inCount: number;
  readonly grid: BlockGrid;
  /** `[K, K]`, over the tokens that are learned from, and over others. */
  readonly learned: Float64Array;
  readonly heldOut: Float64Array;
}

/** A way of rounding a map. */
export interface Rounding {
  /** Absent: every weight to the nearest level by itself. */
  readonly dampening?: number;
  /** What its errors cost on the held-out tokens: the weighted squared error at the map's output. */
  readonly cost: number;
}

/** The codes that cost least on held-out tokens, and what each way of rounding costs there. */
export interface ChosenCodes {
  readonly codes: BlockCodes;
  readonly chosen: Rounding;
  readonly nearest: Rounding;
}

/** Tries the ways of rounding a map. */
export async function chooseCodes(
  problem: CodesProblem,
  { form, multiply }: { readonly form: QuadraticForm; readonly multiply: MultiplyTransposed },
): Promise<ChosenCodes> {
  const { heldOut, inCount } = problem;
  const costOf = async (codes: BlockCodes): Promise<number> => {
    const values = dequantise(codes);
    for (let at = 0; at < values.length; at += 1) values[at] = problem.weight[at]! - values[at]!;
    const rowsOf = (start: number, end: number) => new Float32Array(heldOut.subarray(start * inCount, end * inCount));
    return form.trace({ rows: problem.outCount, columns: inCount, values }, rowsOf);
  };
  const plain = roundToNearest(problem.weight, problem);
  const nearest: Rounding = { cost: await costOf(plain) };
  let best: ChosenCodes = { codes: plain, chosen: nearest, nearest };
  for (const dampening of DAMPENINGS) {
    const factor = await factoriseFeedback({ matrix: problem.learned, size: inCount }, { dampening, multiply });
    const codes = await roundWithFeedback(problem, factor, multiply);
    const cost = await costOf(codes);
    if (cost < best.chosen.cost) best = { codes, chosen: { dampening, cost }, nearest };
  }
  return best;
}
