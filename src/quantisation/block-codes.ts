import { NumericalError } from '../errors.js';
import { float16ToFloat32Bits, float32ToFloat16Bits } from '../onnx/float-bits.js';
import { CODEBOOKS, type CodebookName } from './codebooks.js';

/** Blocks of a weight along its input axis, and the levels that its numbers are rounded to. */
export interface BlockGrid {
  /** A code of seven bits takes a byte, as one of eight bits. */
  readonly bits: 2 | 4 | 7 | 8;
  /** Weights that share a scale; a shorter last block of a row is padded. */
  readonly blockSize: number;
  /** Whether every block has its own zero point; otherwise it is the middle level, `2^(bits - 1)`. */
  readonly hasZeroPoints: boolean;
  /** Type of the scales. */
  readonly scaleType: 'float32' | 'float16';
  /** Products are in float32, and a `Cast` converts the float16 scales, which ONNX Runtime does once, while it loads a model. */
  readonly castsScales?: boolean | undefined;
  /** Codebook with the level of each code at a scale of 1. Rows are whole blocks then. Absent: levels are integers. */
  readonly codebook?: CodebookName | undefined;
}

/** The part of a grid that may differ between the weights of a model. */
export interface WeightGrid {
  readonly bits: 2 | 4 | 8;
  readonly blockSize: number;
}

/** A linear layer's weight `[N, K]` as codes in blocks: `w = (code - zero point) scale`, or `w = codebook[code] scale`. */
export interface BlockCodes {
  readonly grid: BlockGrid;
  /** N. */
  readonly outCount: number;
  /** K. */
  readonly inCount: number;
  /** One code per weight, `[N, blocks * blockSize]`; padding has the block's zero point. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** `[N, blocks]`, positive or negative; exact in the grid's scale type. */
  readonly scales: Float32Array<ArrayBuffer>;
  /** `[N, blocks]`, integers or fractions; absent if all are the middle level. */
  readonly zeroPoints?: Uint8Array<ArrayBuffer> | Float32Array<ArrayBuffer>;
  /** `[K]`: index of the block with each input's scale and zero point (`g_idx`); absent: inputs are in block order. */
  readonly groups?: Int32Array<ArrayBuffer>;
}

/** Blocks of a row of `inCount` weights. */
export const blockCount = (inCount: number, { blockSize }: Pick<BlockGrid, 'blockSize'>): number =>
  Math.ceil(inCount / blockSize);

/** Codes of zeros, to be filled. */
export function emptyCodes(grid: BlockGrid, outCount: number, inCount: number): BlockCodes {
  const blocks = blockCount(inCount, grid);
  const middle = 2 ** (grid.bits - 1);
  return {
    grid,
    outCount,
    inCount,
    codes: new Uint8Array(outCount * blocks * grid.blockSize).fill(middle),
    scales: new Float32Array(outCount * blocks),
    ...(grid.hasZeroPoints && { zeroPoints: new Uint8Array(outCount * blocks).fill(middle) }),
  };
}

/** A block's scale, and the code of zero. */
export interface BlockScale {
  readonly scale: number;
  readonly zeroPoint: number;
}

/** Scales of all blocks of a weight. */
export interface BlockScales {
  /** Blocks of a row. */
  readonly perRow: number;
  /** `[N, perRow]`. */
  readonly scales: Float32Array;
  /** `[N, perRow]`; absent if all are the middle level. */
  readonly zeroPoints?: Uint8Array | Float32Array;
}

/** Earlier scales of blocks, by row and block. */
export type KnownScales = (row: number, block: number) => BlockScale;

/** Scale for numbers from `low` to `high`, within the range of the grid's zero point. */
export function scaleOfRange(grid: BlockGrid, low: number, high: number): BlockScale {
  const { bits, hasZeroPoints, scaleType, codebook } = grid;
  const middle = 1 << (bits - 1);
  const top = 2 * middle - 1;
  if (codebook !== undefined) return { scale: storedScale(Math.max(-low, high), scaleType), zeroPoint: middle };
  if (!hasZeroPoints) {
    // The side with the larger magnitude gets the extra level.
    const extreme = -low > high ? low : high;
    return { scale: storedScale(-extreme / middle, scaleType), zeroPoint: middle };
  }
  const least = Math.min(low, 0);
  const most = Math.max(high, 0);
  const scale = storedScale((most - least) / top, scaleType);
  return { scale, zeroPoint: Math.min(top, Math.max(0, Math.round(-least / scale))) };
}

/** Rounds a scale to its type; 1 for blocks of zeros, since runtimes refuse a scale of zero. */
export function storedScale(scale: number, type: BlockGrid['scaleType']): number {
  const rounded = type === 'float16' ? toHalf(scale) : Math.fround(scale);
  return rounded === 0 ? 1 : rounded;
}

const FLOAT = new Float32Array(1);
const BITS = new Uint32Array(FLOAT.buffer);

function toHalf(value: number): number {
  FLOAT[0] = value;
  BITS[0] = float16ToFloat32Bits(float32ToFloat16Bits(BITS[0]!));
  return FLOAT[0]!;
}

/**
 * Rounds every weight to the nearest level, as exporters do. A block's scale covers its range, or is its earlier scale if
 * that has a smaller error.
 * @param weight `[N, K]` row-major.
 * @throws NumericalError for a weight that is NaN or infinite, or a range that is too large for the scale's type.
 */
export function roundToNearest(
  weight: Float32Array,
  {
    grid,
    outCount,
    inCount,
    known,
  }: Pick<BlockCodes, 'grid' | 'outCount' | 'inCount'> & { readonly known?: KnownScales | undefined },
): BlockCodes {
  const codes = emptyCodes(grid, outCount, inCount);
  roundRowsToNearest(codes, { first: 0, values: weight }, known);
  return codes;
}

/** Consecutive rows of a weight. */
export interface WeightRows {
  /** Index of the first row. */
  readonly first: number;
  /** `[rows, K]` row-major. */
  readonly values: Float32Array;
}

/** Writes the codes of some rows to `result`. @see roundToNearest */
export function roundRowsToNearest(result: BlockCodes, { first, values }: WeightRows, known?: KnownScales): void {
  const { grid, inCount } = result;
  const blocks = blockCount(inCount, grid);
  const codec = codecOf(grid);
  const { codeOf } = codec;
  const rowCount = values.length / inCount;
  for (let row = 0; row < rowCount; row += 1) {
    for (let block = 0; block < blocks; block += 1) {
      const start = row * inCount + block * grid.blockSize;
      const end = Math.min(start + grid.blockSize, (row + 1) * inCount);
      let low = Infinity;
      let high = -Infinity;
      for (let at = start; at < end; at += 1) {
        low = Math.min(low, values[at]!);
        high = Math.max(high, values[at]!);
      }
      const ranged = scaleOfRange(grid, low, high);
      const scaled =
        known === undefined ? ranged : closer(codec, values.subarray(start, end), [ranged, known(first + row, block)]);
      const place = (first + row) * blocks + block;
      putScale(result, place, scaled);
      const to = place * grid.blockSize - start;
      for (let at = start; at < end; at += 1) result.codes[to + at] = codeOf(values[at]!, scaled);
    }
  }
}

/** The scale with the smaller rounding error; ties go to the first. */
function closer(codec: Codec, values: Float32Array, [first, second]: readonly [BlockScale, BlockScale]): BlockScale {
  return squaredError(codec, values, second) < squaredError(codec, values, first) ? second : first;
}

function squaredError({ codeOf, levelOf }: Codec, values: Float32Array, scaled: BlockScale): number {
  let sum = 0;
  for (const value of values) {
    const level = levelOf(codeOf(value, scaled), scaled.zeroPoint);
    // In float32, as in dequantisation, so that a weight that was rounded before has no error.
    sum += (value - Math.fround(level * scaled.scale)) ** 2;
  }
  return sum;
}

/** Stores a block's scale, and its zero point if the grid has them. @throws NumericalError for NaN and infinity. */
export function putScale(codes: BlockCodes, at: number, { scale, zeroPoint }: BlockScale): void {
  if (!Number.isFinite(scale)) {
    const blocks = blockCount(codes.inCount, codes.grid);
    throw new NumericalError(
      `block ${at % blocks} of row ${Math.floor(at / blocks)} would have the scale ${scale}; a weight in it is NaN, infinite or too large for a ${codes.grid.scaleType} scale: check the weights`,
    );
  }
  codes.scales[at] = scale;
  if (codes.zeroPoints === undefined) return;
  codes.zeroPoints[at] = zeroPoint;
  const { blockSize } = codes.grid;
  codes.codes.fill(zeroPoint, at * blockSize, (at + 1) * blockSize);
}

/** Dequantised codes, `[N, K]` row-major. */
export function dequantise(codes: BlockCodes): Float32Array {
  return dequantiseRows(codes, 0, codes.outCount);
}

/** Dequantised rows `first` to `last` (exclusive). */
export function dequantiseRows(whole: BlockCodes, first: number, last: number): Float32Array {
  const given = rowsOf(whole, first, last);
  const { grid, outCount, inCount, codes, scales, zeroPoints, groups } = given;
  if (groups !== undefined) return dequantiseGroups(given, groups);
  const blocks = blockCount(inCount, grid);
  const middle = 2 ** (grid.bits - 1);
  const levels = grid.codebook && CODEBOOKS[grid.codebook];
  const values = new Float32Array(outCount * inCount);
  for (let row = 0; row < outCount; row += 1) {
    for (let block = 0; block < blocks; block += 1) {
      const at = row * blocks + block;
      const scale = scales[at]!;
      const zeroPoint = zeroPoints?.[at] ?? middle;
      const start = row * inCount + block * grid.blockSize;
      const end = Math.min(start + grid.blockSize, (row + 1) * inCount);
      // Without a function call per weight, which would dominate the time.
      if (levels === undefined)
        for (let to = start, from = at * grid.blockSize; to < end; to += 1, from += 1)
          values[to] = (codes[from]! - zeroPoint) * scale;
      else
        for (let to = start, from = at * grid.blockSize; to < end; to += 1, from += 1)
          values[to] = levels[codes[from]!]! * scale;
    }
  }
  return values;
}

/** A view of some rows. */
function rowsOf(whole: BlockCodes, first: number, last: number): BlockCodes {
  const part = <Values extends Uint8Array | Float32Array>(values: Values): Values => {
    const width = values.length / whole.outCount;
    return values.subarray(first * width, last * width) as Values;
  };
  const { codes, scales, zeroPoints } = whole;
  return {
    ...whole,
    outCount: last - first,
    codes: part(codes),
    scales: part(scales),
    ...(zeroPoints && { zeroPoints: part(zeroPoints) }),
  };
}

function dequantiseGroups({ grid, outCount, inCount, codes, scales, zeroPoints }: BlockCodes, groups: Int32Array) {
  const blocks = blockCount(inCount, grid);
  const middle = 2 ** (grid.bits - 1);
  const { levelOf } = codecOf(grid);
  const values = new Float32Array(outCount * inCount);
  for (let row = 0; row < outCount; row += 1) {
    for (let channel = 0; channel < inCount; channel += 1) {
      const at = row * blocks + groups[channel]!;
      const code = codes[row * blocks * grid.blockSize + channel]!;
      values[row * inCount + channel] = levelOf(code, zeroPoints?.[at] ?? middle) * scales[at]!;
    }
  }
  return values;
}

/** Conversion between numbers and codes of a grid. */
export interface Codec {
  /** The code nearest to a weight. */
  codeOf(value: number, scaled: BlockScale): number;
  /** Value of a code at a scale of 1. */
  levelOf(code: number, zeroPoint: number): number;
}

export const codecOf = ({ bits, codebook }: Pick<BlockGrid, 'bits' | 'codebook'>): Codec => CODECS[codebook ?? bits];

/** @param top Largest code. */
function integerCodec(top: number): Codec {
  return {
    codeOf(value, { scale, zeroPoint }) {
      const code = Math.floor(value / scale + 0.5) + zeroPoint;
      return code < 0 ? 0 : Math.min(code, top);
    },
    levelOf: (code, zeroPoint) => code - zeroPoint,
  };
}

function codebookCodec(levels: readonly number[]): Codec {
  const order = levels.map((level, code) => ({ level, code })).sort((a, b) => a.level - b.level || a.code - b.code);
  const codes = order.map(({ code }) => code);
  const borders = order.slice(1).map(({ level }, at) => (level + order[at]!.level) / 2);
  return {
    codeOf(value, { scale }) {
      const target = value / scale;
      let [low, high] = [0, borders.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (borders[middle]! < target) low = middle + 1;
        else high = middle;
      }
      return codes[low]!;
    },
    levelOf: (code) => levels[code]!,
  };
}

/** Created once, since they are used for every block. */
const CODECS: Readonly<Record<BlockGrid['bits'] | CodebookName, Codec>> = {
  2: integerCodec(3),
  4: integerCodec(15),
  7: integerCodec(127),
  8: integerCodec(255),
  nf4: codebookCodec(CODEBOOKS.nf4),
  fp4: codebookCodec(CODEBOOKS.fp4),
};
