import { freeBytes } from '../free-bytes.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { type BlockCodes, blockCount, type Codec, codecOf, dequantiseRows, storedScale } from './block-codes.js';
import { type InputHessian, MAX_WEIGHTS, meanDiagonal } from './error-feedback.js';

/** Whether calibrated rounding uses coordinate descent: with more than two bits it gains nothing that could be told from chance. */
export const usesCoordinateDescent = (bits: number): boolean => bits === 2;

/** Settings of the descent. */
export interface DescentOptions {
  /** Added to the Hessian's diagonal, as a fraction of its mean; at least 0. */
  readonly dampening: number;
  readonly multiply: MultiplyTransposed;
}

/** Passes over all channels; more gained nothing on the bundled model. */
const PASSES = 2;

/**
 * Improves codes and scales in place, block by block. Each channel gets the code of lowest `tr(E H E')` of the errors E while all
 * others stay; then the block gets the best scale for its codes. So later channels' errors are compensated too, which error
 * feedback cannot do.
 *
 * @param codes Codes to begin with; zero points stay.
 * @param weight `[N, K]` row-major.
 * @see QuantEase (Behdin et al., 2023, arXiv 2309.01885), where scales stay.
 */
export async function descendCodes(
  codes: BlockCodes,
  weight: Float32Array,
  hessian: InputHessian,
  { dampening, multiply }: DescentOptions,
): Promise<void> {
  const { matrix, size } = hessian;
  const { outCount, grid } = codes;
  const added = dampening * meanDiagonal(hessian);
  const rowsAtOnce = Math.max(1, Math.floor(MAX_WEIGHTS / size));
  for (let firstRow = 0; firstRow < outCount; firstRow += rowsAtOnce) {
    const lastRow = Math.min(firstRow + rowsAtOnce, outCount);
    const rows = lastRow - firstRow;
    const values = dequantiseRows(codes, firstRow, lastRow);
    const errors = Float64Array.from(values, (value, at) => weight[firstRow * size + at]! - value);
    freeBytes(values);
    for (let pass = 0; pass < PASSES; pass += 1) {
      for (let start = 0; start < size; start += grid.blockSize) {
        const end = Math.min(start + grid.blockSize, size);
        const share = matrix.subarray(start * size, end * size);
        const gradients = await multiply(errors, share, { rows, columns: end - start, inner: size });
        const curvature = curvatureOf(share, { start, end, size, added });
        descendBlock({ codes, weight, errors, gradients, curvature, added, firstRow, rows, size }, start, end);
        freeBytes(gradients);
      }
    }
    freeBytes(errors);
  }
}

/** The diagonal block of the dampened Hessian for a block of channels. @param share The Hessian's rows of the block. */
function curvatureOf(
  share: Float64Array,
  { start, end, size, added }: { start: number; end: number; size: number; added: number },
): Float64Array {
  const width = end - start;
  const curvature = new Float64Array(width * width);
  for (let row = 0; row < width; row += 1) {
    curvature.set(share.subarray(row * size + start, row * size + end), row * width);
    curvature[row * (width + 1)]! += added;
  }
  return curvature;
}

/** A block of channels in some rows. */
interface BlockDescent {
  readonly codes: BlockCodes;
  readonly weight: Float32Array;
  /** E `[rows, K]`. */
  readonly errors: Float64Array;
  /** E H of the block's channels, `[rows, width]`: half the gradient of the cost, without dampening. */
  readonly gradients: Float64Array;
  /** `[width, width]`, dampened. */
  readonly curvature: Float64Array;
  readonly added: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly size: number;
}

function descendBlock(block: BlockDescent, start: number, end: number): void {
  const { codes, weight, errors, gradients, curvature, added, firstRow, rows, size } = block;
  const { grid } = codes;
  const width = end - start;
  const codec = codecOf(grid);
  const perRow = blockCount(size, grid);
  const levels = new Float64Array(width);
  for (let row = 0; row < rows; row += 1) {
    const place = (firstRow + row) * perRow + start / grid.blockSize;
    const gradient = gradients.subarray(row * width, (row + 1) * width);
    const error = errors.subarray(row * size + start, row * size + end);
    for (let at = 0; at < width; at += 1) gradient[at]! += added * error[at]!;
    const ofRow: RowBlock = {
      values: weight.subarray((firstRow + row) * size + start, (firstRow + row) * size + end),
      codes: codes.codes.subarray(place * grid.blockSize, place * grid.blockSize + width),
      scale: codes.scales[place]!,
      zeroPoint: codes.zeroPoints?.[place] ?? 2 ** (grid.bits - 1),
      error,
      gradient,
      levels,
    };
    descendChannels(ofRow, curvature, codec);
    codes.scales[place] = descendScale(ofRow, curvature, (scale) => storedScale(scale, grid.scaleType));
  }
}

/** A block of one row; all arrays have the block's width. */
interface RowBlock {
  readonly values: Float32Array;
  readonly codes: Uint8Array;
  readonly scale: number;
  readonly zeroPoint: number;
  readonly error: Float64Array;
  /** E H of the block, dampened: half the gradient of the cost by the errors. */
  readonly gradient: Float64Array;
  /** Receives the level of each code. */
  readonly levels: Float64Array;
}

function descendChannels(block: RowBlock, curvature: Float64Array, codec: Codec): void {
  const { values, codes, scale, zeroPoint, error, gradient, levels } = block;
  const width = values.length;
  for (let at = 0; at < width; at += 1) {
    const cost = curvature[at * (width + 1)]!;
    const level = codec.levelOf(codes[at]!, zeroPoint);
    const code = cost > 0 ? codec.codeOf(level * scale + gradient[at]! / cost, block) : codes[at]!;
    levels[at] = codec.levelOf(code, zeroPoint);
    if (code === codes[at]) continue;
    codes[at] = code;
    const changed = values[at]! - levels[at]! * scale;
    const change = changed - error[at]!;
    error[at] = changed;
    for (let other = 0, from = at * width; other < width; other += 1, from += 1)
      gradient[other]! += change * curvature[from]!;
  }
}

/** @returns The scale of lowest cost for the block's codes, or the current one if rounding it to its type makes it worse. */
function descendScale(block: RowBlock, curvature: Float64Array, rounded: (scale: number) => number): number {
  const { values, scale, error, gradient, levels } = block;
  const width = values.length;
  let [gradientOfScale, curvatureOfScale] = [0, 0];
  for (let at = 0; at < width; at += 1) {
    let product = 0;
    for (let other = 0, from = at * width; other < width; other += 1, from += 1)
      product += curvature[from]! * levels[other]!;
    gradientOfScale += gradient[at]! * levels[at]!;
    curvatureOfScale += product * levels[at]!;
  }
  if (!(curvatureOfScale > 0)) return scale;
  const better = rounded(scale + gradientOfScale / curvatureOfScale);
  const change = better - scale;
  if (!(change * (change * curvatureOfScale - 2 * gradientOfScale) < 0)) return scale;
  for (let at = 0; at < width; at += 1) error[at] = values[at]! - levels[at]! * better;
  return better;
}
