import { ModelFormatError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { findNonFinite } from '../linalg/matrix-block.js';
import { FLOAT16, FLOAT32, UINT8 } from '../onnx/data-types.js';
import { encodeFloats, isFloatType, readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { sliceHandle } from '../onnx/slice-handle.js';
import { computedHandle, expectedByteLength, type TensorShape } from '../onnx/tensor-handle.js';
import { elementCount } from '../onnx/value.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import { type BlockCodes, type BlockGrid, type BlockScales, blockCount, dequantiseRows } from './block-codes.js';
import { completeBlocks } from './complete-blocks.js';
import { packBits, swapHalves, unpackBits } from './pack-bits.js';
import { encodeRows, rowParts } from './row-parts.js';

/** A quantised weight as stored in a file, see `com.microsoft.MatMulNBits`, or `MatMulBnb4` for codebooks. */
export interface StoredCodes extends Pick<BlockCodes, 'grid' | 'outCount' | 'inCount'> {
  /** `[N, blocks, blockSize bits / 8]`, uint8. */
  readonly codes: TensorHandle;
  /** `[N, blocks]`. */
  readonly scales: TensorHandle;
  /** `[N, bytes]`, uint8, packed like the codes; or `[N, blocks]`, floats. */
  readonly zeroPoints?: TensorHandle;
  /** `[K]` at least, int32, see `BlockCodes.groups`. */
  readonly groups?: TensorHandle;
  /** Name of its initializer, for messages. */
  readonly name?: string;
}

/** Converts codes to the form of the file. */
export async function storeCodes(given: BlockCodes, store: StoreTensor): Promise<StoredCodes> {
  const { grid, outCount, inCount, codes, scales, zeroPoints } = given;
  const { bits, blockSize } = grid;
  const blocks = blockCount(inCount, grid);
  const scaleType = grid.scaleType === 'float16' ? FLOAT16 : FLOAT32;
  const bytes = (dims: number[], values: Uint8Array<ArrayBuffer>) => store({ dataType: UINT8, dims }, values);
  const packed = zeroPoints && packBits(Uint8Array.from(zeroPoints), bits, blocks);
  const inOrder = packBits(codes, bits, blockSize);
  return {
    grid,
    outCount,
    inCount,
    // With a codebook, the first of two codes has the high bits.
    codes: await bytes(
      [outCount, blocks, codeBytes(grid)],
      grid.codebook === undefined ? inOrder : swapHalves(inOrder),
    ),
    scales: await store({ dataType: scaleType, dims: [outCount, blocks] }, encodeFloats(scaleType, scales)),
    ...(packed && { zeroPoints: await bytes([outCount, packed.length / outCount], packed) }),
  };
}

/**
 * Reads codes back.
 * @throws ModelFormatError for a scale or zero point that is NaN or infinite, a scale of 0 for different codes, or an invalid
 * block index.
 */
export async function readCodes(stored: StoredCodes): Promise<BlockCodes> {
  const { grid, outCount, inCount, codes, scales } = stored;
  const { bits, blockSize } = grid;
  const packed = await codes.read();
  const [zeroPoints, groups] = [await readZeroPoints(stored), await readGroups(stored)];
  const read: BlockCodes = {
    grid,
    outCount,
    inCount,
    codes: unpackBits(grid.codebook === undefined ? packed : swapHalves(packed), bits, blockSize),
    scales: Float32Array.from(await readFloat32(scales)),
    ...(zeroPoints && { zeroPoints }),
    ...(groups && { groups }),
  };
  const invalid = read.scales.findIndex((scale, block) => !isValidScale(scale, read, block));
  if (invalid < 0) return read;
  const row = Math.floor(invalid / blockCount(inCount, grid));
  throw new ModelFormatError(
    `the scale of a block in row ${row} of ${stored.name ?? 'a weight'} of ${outCount} rows is ${read.scales[invalid]}; expected a finite number other than 0. Get the file again.`,
  );
}

/** Reads scales without codes; undefined for fractional zero points, or inputs with block indices. */
export async function readStoredScales(stored: StoredCodes): Promise<BlockScales | undefined> {
  if (stored.groups !== undefined || (stored.zeroPoints && isFloatType(stored.zeroPoints.dataType))) return undefined;
  const zeroPoints = await readZeroPoints(stored);
  const perRow = blockCount(stored.inCount, stored.grid);
  return { perRow, scales: await readFloat32(stored.scales), ...(zeroPoints && { zeroPoints }) };
}

async function readZeroPoints({ zeroPoints: stored, grid, inCount, outCount, name = 'a weight' }: StoredCodes) {
  if (stored === undefined) return undefined;
  const blocks = blockCount(inCount, grid);
  if (!isFloatType(stored.dataType)) return unpackBits(await stored.read(), grid.bits, blocks);
  const numbers = Float32Array.from(await readFloat32(stored));
  const invalid = findNonFinite(numbers);
  if (invalid < 0) return numbers;
  throw new ModelFormatError(
    `the zero point of a block in row ${Math.floor(invalid / blocks)} of ${name} of ${outCount} rows is ${numbers[invalid]}; expected a finite number. Get the file again.`,
  );
}

async function readGroups({ groups: stored, grid, inCount }: StoredCodes) {
  if (stored === undefined) return undefined;
  const groups = new Int32Array((await stored.read({ offset: 0, length: 4 * inCount })).slice().buffer);
  const blocks = blockCount(inCount, grid);
  const invalid = groups.findIndex((group) => group < 0 || group >= blocks);
  if (invalid < 0) return groups;
  throw new ModelFormatError(
    `input ${invalid} of a weight has block index ${groups[invalid]}; expected 0 to ${blocks - 1}. Get the file again.`,
  );
}

/** A block of equal codes may have the scale 0; with block indices, a block may be unused. */
function isValidScale(scale: number, { grid: { blockSize }, codes, groups }: BlockCodes, block: number): boolean {
  if (scale !== 0 || groups !== undefined) return Number.isFinite(scale);
  const start = block * blockSize;
  return codes.subarray(start, start + blockSize).every((code) => code === codes[start]);
}

/** Selects rows of codes, without rounding. */
export function cutRows(whole: StoredCodes, keep: Int32Array): StoredCodes {
  const { codes, scales, zeroPoints, ...form } = whole;
  const cut = (part: TensorHandle): TensorHandle => {
    const rows = { ...part, dims: [whole.outCount, elementCount(part.dims) / whole.outCount] };
    return sliceHandle(rows, 0, keep);
  };
  const sliced = cut(codes);
  const blocks = blockCount(whole.inCount, whole.grid);
  return {
    ...form,
    outCount: keep.length,
    codes: { ...sliced, dims: [keep.length, blocks, sliced.byteLength / keep.length / blocks] },
    scales: cut(scales),
    ...(zeroPoints && { zeroPoints: cut(zeroPoints) }),
  };
}

/**
 * Selects whole blocks of every row of codes, without rounding.
 * @param keep Remaining inputs, in their new order.
 * @returns undefined if blocks would be divided, or inputs have block indices.
 */
export function cutBlocks(whole: StoredCodes, keep: Int32Array): StoredCodes | undefined {
  const { grid, outCount, inCount, codes, scales, zeroPoints, groups, ...form } = whole;
  const wholeBlocks = groups === undefined ? completeBlocks(keep, inCount, grid.blockSize) : undefined;
  if (wholeBlocks === undefined) return undefined;
  const blocks = blockCount(inCount, grid);
  const cut = (part: TensorHandle, dims: readonly number[]) =>
    sliceHandle({ ...part, dims: [...dims] }, 1, wholeBlocks);
  const cutZeroPoints = (part: TensorHandle): TensorHandle => {
    if (isFloatType(part.dataType)) return cut(part, [outCount, blocks]);
    const { dataType } = part;
    const unpacked = computedHandle({ dataType, dims: [outCount, blocks] }, async () =>
      unpackBits(await part.read(), grid.bits, blocks),
    );
    const remaining = cut(unpacked, [outCount, blocks]);
    const dims = [outCount, Math.ceil((wholeBlocks.length * grid.bits) / 8)];
    return computedHandle({ dataType, dims }, async () =>
      packBits(await remaining.read(), grid.bits, wholeBlocks.length),
    );
  };
  return {
    ...form,
    grid,
    outCount,
    inCount: keep.length,
    codes: cut(codes, [outCount, blocks, codeBytes(grid)]),
    scales: cut(scales, [outCount, blocks]),
    ...(zeroPoints && { zeroPoints: cutZeroPoints(zeroPoints) }),
  };
}

/** Bytes of a block's codes. */
const codeBytes = ({ bits, blockSize }: BlockGrid): number =>
  bits > 4 ? blockSize : Math.ceil((blockSize * bits) / 8);

/** Bytes of a grid's codes, scales and zero points for a weight. */
export function codesByteLength(grid: BlockGrid, outCount: number, inCount: number): number {
  const blocks = blockCount(inCount, grid);
  const perRow = blocks * codeBytes(grid) + blocks * (grid.scaleType === 'float16' ? 2 : 4);
  return outCount * (perRow + (grid.hasZeroPoints ? Math.ceil((blocks * grid.bits) / 8) : 0));
}

/** The dequantised weight, computed on each read, so that no second copy is stored. */
export function dequantisedHandle(shape: TensorShape, stored: StoredCodes, inputAxis: 0 | 1): TensorHandle {
  return computedHandle(shape, async () => {
    const read = await readCodes(stored);
    const layout = { ...shape, inputAxis, inCount: read.inCount, outCount: read.outCount };
    const bytes = new Uint8Array(expectedByteLength(shape));
    for (const [first, last] of rowParts(layout)) {
      const values = dequantiseRows(read, first, last);
      encodeRows(bytes, layout, { first, values });
      freeBytes(values);
    }
    freeBytes(read.codes);
    return bytes;
  });
}
