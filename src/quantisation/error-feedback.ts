import { factoriseDampened } from '../linalg/factorise-dampened.js';
import { copyBlock } from '../linalg/matrix-block.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { type BlockCodes, type BlockGrid, type Codec, codecOf, emptyCodes, putScale } from './block-codes.js';
import { fitScale } from './fit-scale.js';

/** A symmetric positive semidefinite matrix over a map's inputs, `H = sum of weight x x'` over tokens. */
export interface InputHessian {
  /** `[K, K]` row-major. */
  readonly matrix: Float64Array;
  readonly size: number;
}

/** `H + dampening = U D U'`, U upper triangular with ones on its diagonal, D diagonal. */
export interface FeedbackFactor {
  /** U' `[K, K]` row-major: how much of the errors of the channels before it each channel takes over. */
  readonly feedback: Float64Array;
  /** D: what an error in each channel costs that no later channel can take over. */
  readonly costs: Float64Array;
  readonly size: number;
}

/**
 * Factorises a Hessian for `roundWithFeedback`.
 * @param dampening Added to the diagonal, as a fraction of its mean; at least 0.
 */
export async function factoriseFeedback(
  { matrix, size }: InputHessian,
  { dampening, multiply }: { readonly dampening: number; readonly multiply: MultiplyTransposed },
): Promise<FeedbackFactor> {
  let trace = 0;
  for (let at = 0; at < size; at += 1) trace += matrix[at * size + at]!;
  // Reversed, an upper factor is a lower one, which the factorisation at hand makes.
  const { lower } = await factoriseDampened({
    size,
    copy: () => matrix.slice().reverse(),
    unit: trace / size || 1,
    dampening,
    multiply,
  });
  const feedback = new Float64Array(size * size);
  const costs = new Float64Array(size);
  for (let channel = 0; channel < size; channel += 1) {
    const reversed = size - 1 - channel;
    const pivot = lower[reversed * size + reversed]!;
    costs[channel] = pivot * pivot;
    for (let before = 0; before < channel; before += 1)
      feedback[channel * size + before] = lower[(size - 1 - before) * size + reversed]! / pivot;
  }
  return { feedback, costs, size };
}

/** A weight to be rounded. */
export interface FeedbackProblem {
  /** `[N, K]` row-major. */
  readonly weight: Float32Array;
  readonly outCount: number;
  readonly inCount: number;
  readonly grid: BlockGrid;
}

/** Channels between two large products: the fewer, the more of the work is in those. */
const PANEL = 64;

/**
 * Rounds channel after channel, each moved before by what the errors of those before it call for, so that
 * `tr(E H E')` of the errors E is small; the scale of every block is fitted when the block is reached.
 *
 * @see GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323), in the form of LDLQ (QuIP, Chee et al., NeurIPS 2023, arXiv
 * 2307.13304, theorem 6), which needs no inverse.
 * @throws NumericalError where a weight is NaN or infinite.
 */
export async function roundWithFeedback(
  problem: FeedbackProblem,
  factor: FeedbackFactor,
  multiply: MultiplyTransposed,
): Promise<BlockCodes> {
  const { weight, outCount, inCount, grid } = problem;
  const { feedback } = factor;
  const result = emptyCodes(grid, outCount, inCount);
  const codec = codecOf(grid);
  const errors = new Float64Array(outCount * inCount);
  const step = Math.max(PANEL, grid.blockSize);
  for (let start = 0; start < inCount; start += step) {
    const end = Math.min(inCount, start + step);
    const width = end - start;
    const taken =
      start === 0
        ? undefined
        : await multiply(
            copyBlock(errors, inCount, { rowStart: 0, rowEnd: outCount, columnStart: 0, columnEnd: start }),
            copyBlock(feedback, inCount, { rowStart: start, rowEnd: end, columnStart: 0, columnEnd: start }),
            { rows: outCount, columns: width, inner: start },
          );
    const panel = takePanel(factor, start, end);
    const [moved, given] = [new Float64Array(width), new Float64Array(width)];
    for (let row = 0; row < outCount; row += 1) {
      moved.set(weight.subarray(row * inCount + start, row * inCount + end));
      if (taken !== undefined) for (let at = 0; at < width; at += 1) moved[at]! += taken[row * width + at]!;
      roundRow(result, { ...panel, codec, row, start, moved, given, weight });
      errors.set(given, row * inCount + start);
    }
  }
  return result;
}

/** The part of a factor that couples the channels of one panel. */
interface Panel {
  /** `[width, width]`: what each channel takes over of the error of each channel before it. */
  readonly takes: Float64Array;
  readonly costs: Float64Array;
}

const takePanel = ({ feedback, costs, size }: FeedbackFactor, start: number, end: number): Panel => ({
  takes: copyBlock(feedback, size, { rowStart: start, rowEnd: end, columnStart: start, columnEnd: end }),
  costs: costs.subarray(start, end),
});

interface RowPart extends Panel {
  readonly codec: Codec;
  readonly row: number;
  /** First channel of the panel. */
  readonly start: number;
  /** The row's weights in the panel, moved by errors of panels before it. */
  readonly moved: Float64Array;
  /** Gets the errors of the row's weights in the panel. */
  readonly given: Float64Array;
  readonly weight: Float32Array;
}

function roundRow(result: BlockCodes, { codec, row, start, moved, given, takes, costs, weight }: RowPart): void {
  const { grid, inCount, codes } = result;
  const { blockSize } = grid;
  const width = moved.length;
  const blocks = Math.ceil(inCount / blockSize);
  for (let first = 0; first < width; first += blockSize) {
    const last = Math.min(width, first + blockSize);
    takeErrors({ moved, given, takes }, first, last);
    const scaled = fitScale(grid, { values: moved.subarray(first, last), costs: costs.subarray(first, last) });
    const block = row * blocks + (start + first) / blockSize;
    putScale(result, block, scaled);
    for (let at = first; at < last; at += 1) {
      let value = moved[at]!;
      for (let before = first, from = at * width + first; before < at; before += 1, from += 1)
        value += given[before]! * takes[from]!;
      const code = codec.codeOf(value, scaled);
      codes[block * blockSize + at - first] = code;
      given[at] = weight[row * inCount + start + at]! - codec.levelOf(code, scaled.zeroPoint) * scaled.scale;
    }
  }
}

/** Moves channels from `first` to `last` (exclusive) by the errors of the panel's channels before `first`. */
function takeErrors(
  { moved, given, takes }: Pick<RowPart, 'moved' | 'given' | 'takes'>,
  first: number,
  last: number,
): void {
  const width = moved.length;
  if (first === 0) return;
  let at = first;
  // Four sums at once, since each waits for its last addition.
  for (; at + 4 <= last; at += 4) {
    let a = moved[at]!;
    let b = moved[at + 1]!;
    let c = moved[at + 2]!;
    let d = moved[at + 3]!;
    const rowA = at * width;
    const rowB = rowA + width;
    const rowC = rowB + width;
    const rowD = rowC + width;
    for (let before = 0; before < first; before += 1) {
      const error = given[before]!;
      a += error * takes[rowA + before]!;
      b += error * takes[rowB + before]!;
      c += error * takes[rowC + before]!;
      d += error * takes[rowD + before]!;
    }
    moved[at] = a;
    moved[at + 1] = b;
    moved[at + 2] = c;
    moved[at + 3] = d;
  }
  for (; at < last; at += 1) {
    let value = moved[at]!;
    for (let before = 0; before < first; before += 1) value += given[before]! * takes[at * width + before]!;
    moved[at] = value;
  }
}
