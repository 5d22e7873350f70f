import { freeBytes } from '../free-bytes.js';
import { factoriseDampened } from '../linalg/factorise-dampened.js';
import { copyBlock } from '../linalg/matrix-block.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import {
  type BlockCodes,
  type BlockGrid,
  type BlockScale,
  blockCount,
  codecOf,
  emptyCodes,
  type KnownScales,
  putScale,
} from './block-codes.js';
import { fitScale } from './fit-scale.js';

/** A symmetric positive semidefinite matrix over a linear layer's inputs, `H = sum of weight x x'` over tokens. */
export interface InputHessian {
  /** `[K, K]` row-major. */
  readonly matrix: Float64Array;
  readonly size: number;
}

/** `H + dampening = U D U'`, U upper triangular with ones on its diagonal, D diagonal. */
export interface FeedbackFactor {
  /** U' `[K, K]` row-major: the share of each earlier channel's error that a channel compensates. */
  readonly feedback: Float64Array;
  /** D: cost of an error in each channel that later channels cannot compensate. */
  readonly costs: Float64Array;
  readonly size: number;
}

/**
 * Factorises a Hessian for `roundWithFeedback`.
 * @param dampening Added to the diagonal, as a fraction of its mean; at least 0.
 */
export async function factoriseFeedback(
  hessian: InputHessian,
  { dampening, multiply }: { readonly dampening: number; readonly multiply: MultiplyTransposed },
): Promise<FeedbackFactor> {
  const { matrix, size } = hessian;
  // The upper factor is the lower factor of the reversed matrix.
  const { lower } = await factoriseDampened({
    size,
    copy: () => matrix.slice().reverse(),
    unit: meanDiagonal(hessian) || 1,
    dampening,
    multiply,
  });
  const costs = new Float64Array(size);
  for (let channel = 0; channel < size; channel += 1) costs[channel] = lower[(size - 1 - channel) * (size + 1)]! ** 2;
  reverseTransposeInPlace(lower, size);
  return { feedback: lower, costs, size };
}

/** Mean of a Hessian's diagonal, the unit of dampening. */
export function meanDiagonal({ matrix, size }: InputHessian): number {
  let trace = 0;
  for (let at = 0; at < size; at += 1) trace += matrix[at * (size + 1)]!;
  return trace / size;
}

/** Rows and columns that are transposed together, so that both sides stay in the cache. */
const TILE = 16;

/**
 * Converts the factor of the reversed matrix to U' without its diagonal: transposes it, reverses rows and columns, and
 * divides each row by its pivot. In place, since such a matrix of a wide linear layer takes a gigabyte.
 */
function reverseTransposeInPlace(factor: Float64Array, size: number): void {
  const last = size - 1;
  const pivots = Float64Array.from({ length: size }, (_, channel) => factor[(last - channel) * (size + 1)]!);
  for (let top = 0; top < size; top += TILE) {
    for (let left = 0; left <= Math.min(top, last - top); left += TILE) {
      for (let channel = top; channel < Math.min(size, top + TILE); channel += 1) {
        const end = Math.min(channel, left + TILE, size - channel);
        for (let before = left; before < end; before += 1) {
          const place = channel * size + before;
          const other = (last - before) * size + last - channel;
          const value = factor[place]!;
          factor[place] = factor[other]! / pivots[channel]!;
          factor[other] = value / pivots[last - before]!;
        }
      }
    }
  }
  for (let channel = 0; channel < size; channel += 1) factor[channel * (size + 1)] = 0;
}

/** A weight to round. */
export interface FeedbackProblem {
  /** `[N, K]` row-major. */
  readonly weight: Float32Array;
  readonly outCount: number;
  readonly inCount: number;
  readonly grid: BlockGrid;
  /** Earlier scales of blocks, see `fitScale`. */
  readonly known?: KnownScales | undefined;
}

/** Channels that are rounded in plain loops, between large products. */
const PANEL = 32;

/** Largest number of weights that are rounded together, in entire rows; bounds the memory. */
export const MAX_WEIGHTS = 2 ** 22;

/**
 * Rounds channel by channel. Each channel is first changed to compensate the errors of earlier ones, so that `tr(E H E')` of
 * the errors E is small. The scale of a block is fitted when the block is reached.
 *
 * @see GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323), in the form of LDLQ (QuIP, Chee et al., NeurIPS 2023, arXiv
 * 2307.13304, theorem 6), which needs no inverse.
 * @throws NumericalError for a weight that is NaN or infinite.
 */
export async function roundWithFeedback(
  { weight, outCount, inCount, grid, known }: FeedbackProblem,
  factor: FeedbackFactor,
  multiply: MultiplyTransposed,
): Promise<BlockCodes> {
  const codes = emptyCodes(grid, outCount, inCount);
  const rowsAtOnce = Math.max(1, Math.floor(MAX_WEIGHTS / inCount));
  for (let firstRow = 0; firstRow < outCount; firstRow += rowsAtOnce) {
    const rowCount = Math.min(rowsAtOnce, outCount - firstRow);
    const rows = weight.subarray(firstRow * inCount, (firstRow + rowCount) * inCount);
    const state = new Float64Array(rows);
    await roundSpan({ codes, known, weight: rows, state, firstRow, rowCount, factor, multiply }, 0, inCount);
    freeBytes(state);
  }
  return codes;
}

/** Rows that are rounded together. */
interface RowsRounding extends Pick<FeedbackProblem, 'known'> {
  readonly codes: BlockCodes;
  /** `[rowCount, K]`. */
  readonly weight: Float32Array;
  /** Of rounded channels: their errors. Of the others: weights that compensate the errors so far. */
  readonly state: Float64Array;
  readonly firstRow: number;
  readonly rowCount: number;
  readonly factor: FeedbackFactor;
  readonly multiply: MultiplyTransposed;
}

/** Rounds channels `start` to `end` (exclusive) by halves: a product adds the errors of the first half to the second. */
async function roundSpan(rounding: RowsRounding, start: number, end: number): Promise<void> {
  const { state, rowCount, factor, multiply, codes } = rounding;
  const { feedback, size } = factor;
  const step = Math.max(PANEL, codes.grid.blockSize);
  const panels = Math.ceil((end - start) / step);
  if (panels <= 1) return roundPanel(rounding, start, end);
  const middle = start + Math.ceil(panels / 2) * step;
  await roundSpan(rounding, start, middle);
  const before = { columnStart: start, columnEnd: middle };
  const errors = copyBlock(state, size, { ...before, rowStart: 0, rowEnd: rowCount });
  const shares = copyBlock(feedback, size, { ...before, rowStart: middle, rowEnd: end });
  const shape = { rows: rowCount, columns: end - middle, inner: middle - start };
  const corrections = await multiply(errors, shares, shape);
  for (let row = 0, from = 0; row < rowCount; row += 1)
    for (let at = row * size + middle, last = row * size + end; at < last; at += 1, from += 1)
      state[at]! += corrections[from]!;
  freeBytes(errors, shares, corrections);
  await roundSpan(rounding, middle, end);
}

/** Rows that are rounded together: processors overlap the additions of independent sums. */
const LANES = 4;

/** Channels that are rounded in plain loops, for the current rows. */
interface Panel {
  readonly width: number;
  /** `[width, width]`: the share of each earlier channel's error that a channel compensates. */
  readonly shares: Float64Array;
  /** `[lanes, width]`: weights that compensate earlier errors. */
  readonly corrected: Float64Array;
  /** `[lanes, width]`. */
  readonly errors: Float64Array;
}

function roundPanel(
  { codes, known, weight, state, firstRow, rowCount, factor }: RowsRounding,
  start: number,
  end: number,
): void {
  const { feedback, costs, size } = factor;
  const { grid } = codes;
  const { blockSize } = grid;
  const width = end - start;
  const shares = copyBlock(feedback, size, { rowStart: start, rowEnd: end, columnStart: start, columnEnd: end });
  const [corrected, errors] = [new Float64Array(LANES * width), new Float64Array(LANES * width)];
  const panel: Panel = { width, shares, corrected, errors };
  const blocks = Array.from({ length: Math.ceil(width / blockSize) }, (_, block) => {
    const [first, last] = [block * blockSize, Math.min(width, (block + 1) * blockSize)];
    const weighed = Array.from({ length: LANES }, (_, lane) => ({
      values: corrected.subarray(lane * width + first, lane * width + last),
      costs: costs.subarray(start + first, start + last),
    }));
    return { first, last, weighed };
  });
  const codec = codecOf(grid);
  const perRow = blockCount(size, grid);
  const scaled: BlockScale[] = [];
  for (let top = 0; top < rowCount; top += LANES) {
    // If fewer rows remain, the last one is rounded several times, with the same result.
    const rows = Array.from({ length: LANES }, (_, lane) => Math.min(top + lane, rowCount - 1));
    for (const [lane, row] of rows.entries())
      corrected.set(state.subarray(row * size + start, row * size + end), lane * width);
    for (const { first, last, weighed } of blocks) {
      if (first > 0) for (let at = first; at < last; at += 1) compensateErrors(panel, at, 0, first);
      const block = (start + first) / blockSize;
      for (let lane = 0; lane < LANES; lane += 1) {
        const row = firstRow + rows[lane]!;
        scaled[lane] = fitScale(grid, weighed[lane]!, known?.(row, block));
        putScale(codes, row * perRow + block, scaled[lane]!);
      }
      for (let at = first; at < last; at += 1) {
        compensateErrors(panel, at, first, at);
        for (let lane = 0; lane < LANES; lane += 1) {
          const [row, place] = [rows[lane]!, lane * width + at];
          const code = codec.codeOf(corrected[place]!, scaled[lane]!);
          codes.codes[((firstRow + row) * perRow + block) * blockSize + at - first] = code;
          const { scale, zeroPoint } = scaled[lane]!;
          errors[place] = weight[row * size + start + at]! - codec.levelOf(code, zeroPoint) * scale;
        }
      }
    }
    for (const [lane, row] of rows.entries())
      state.set(errors.subarray(lane * width, (lane + 1) * width), row * size + start);
  }
}

/** Compensates, in all lanes of a channel, the errors of channels `first` to `last` (exclusive). */
function compensateErrors({ corrected, errors, shares, width }: Panel, at: number, first: number, last: number): void {
  const [rowB, rowC, rowD] = [width, 2 * width, 3 * width];
  let a = corrected[at]!;
  let b = corrected[rowB + at]!;
  let c = corrected[rowC + at]!;
  let d = corrected[rowD + at]!;
  for (let before = first, from = at * width + first; before < last; before += 1, from += 1) {
    const share = shares[from]!;
    a += errors[before]! * share;
    b += errors[rowB + before]! * share;
    c += errors[rowC + before]! * share;
    d += errors[rowD + before]! * share;
  }
  corrected[at] = a;
  corrected[rowB + at] = b;
  corrected[rowC + at] = c;
  corrected[rowD + at] = d;
}
