import { transposeMatrix } from '../linalg/matrix-block.js';
import { dataTypeNumber } from '../onnx/data-types.js';
import { readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { bytesHandle, computedHandle } from '../onnx/tensor-handle.js';
import { elementCount } from '../onnx/value.js';
import { type BlockGrid, type BlockScales, blockCount } from './block-codes.js';
import { codeType, type LinearCodes, type NamedTensor, readIntegers } from './linear-codes.js';
import { packBits } from './pack-bits.js';
import { readCodes, type StoredCodes } from './store-codes.js';

/** Element types of linear codes. */
export type LinearType = 'int8' | 'uint8' | 'int4' | 'uint4';

/** Form of the linear codes to write. */
export interface LinearTarget {
  readonly type: LinearType;
  /** Axis of the result that products sum over. */
  readonly inputAxis: 0 | 1;
  /** Names of the initializers; weights of a type share a single zero point. */
  readonly names: Readonly<Record<'codes' | 'scales' | 'zeroPoints', string>>;
}

/** Converts rounded codes to linear form: one scale per output if blocks are entire rows, else one per block. */
export function linearOf(stored: StoredCodes, { type, inputAxis, names }: LinearTarget): LinearCodes {
  const { grid, outCount, inCount } = stored;
  const blocks = blockCount(inCount, grid);
  const dataType = dataTypeNumber(type);
  const middle = 2 ** (grid.bits - 1);
  const shape = (length: number) => (inputAxis === 1 ? [outCount, length] : [length, outCount]);
  const transposed = <T extends Uint8Array<ArrayBuffer>>(rows: T, length: number) =>
    inputAxis === 1 ? rows : transposeMatrix(rows, outCount, length);
  const packed = (values: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => {
    const { bits } = codeType({ dataType });
    const numbers = type.startsWith('u') ? values : values.map((code) => (code - middle) & (2 ** bits - 1));
    return packBits(numbers, bits, numbers.length);
  };
  const codes = computedHandle({ dataType, dims: shape(inCount) }, async () => {
    const read = await readCodes(stored);
    return packed(transposed(withoutPadding(read.codes, inCount, blocks * grid.blockSize), inCount));
  });
  const isPerChannel = blocks === 1;
  const zeroPoints =
    stored.zeroPoints &&
    computedHandle({ dataType, dims: isPerChannel ? [outCount] : shape(blocks) }, async () => {
      const read = await readCodes(stored);
      return packed(transposed(Uint8Array.from(read.zeroPoints!), blocks));
    });
  return {
    codes: { name: names.codes, handle: codes },
    scales: { name: names.scales, handle: isPerChannel ? { ...stored.scales, dims: [outCount] } : blockScales() },
    zeroPoints: zeroPoints === undefined ? MIDDLES[type] : { name: names.zeroPoints, handle: zeroPoints },
    axis: isPerChannel ? 1 - inputAxis : inputAxis,
    blockSize: isPerChannel ? 0 : grid.blockSize,
  };

  function blockScales(): TensorHandle {
    const { scales } = stored;
    if (inputAxis === 1) return scales;
    return computedHandle({ dataType: scales.dataType, dims: shape(blocks) }, async () => {
      const bytes = await scales.read();
      const Words = codeType(scales).bits === 16 ? Uint16Array : Uint32Array;
      return new Uint8Array(transposeMatrix(new Words(bytes.buffer), outCount, blocks).buffer);
    });
  }
}

/**
 * Converts scales of linear codes to those of a grid of blocks.
 * @returns undefined if blocks or zero points do not match the grid
 */
export async function scalesOfLinear(
  { codes: { handle }, scales, zeroPoints, axis, blockSize }: LinearCodes,
  { grid, inputAxis }: Pick<LinearTarget, 'inputAxis'> & { readonly grid: BlockGrid },
): Promise<BlockScales | undefined> {
  const { name, bits } = codeType(handle);
  const isSigned = name.startsWith('int');
  const hasBlocks = blockSize > 0 && axis === inputAxis;
  const matches = hasBlocks
    ? blockSize === grid.blockSize
    : blockSize === 0 && (axis !== inputAxis || isOne(scales.handle));
  const fits = bits === grid.bits && isSigned !== grid.hasZeroPoints && !(isSigned && zeroPoints !== undefined);
  if (!matches || !fits) return undefined;
  const outCount = handle.dims[1 - inputAxis]!;
  const perRow = hasBlocks ? Math.ceil(handle.dims[inputAxis]! / blockSize) : 1;
  const byRow = (values: Float32Array): Float32Array => {
    if (values.length === 1) return new Float32Array(outCount * perRow).fill(values[0]!);
    return inputAxis === 1 ? values : transposeMatrix(values, perRow, outCount);
  };
  const zeros = zeroPoints === undefined ? [0] : await readIntegers(zeroPoints.handle);
  return {
    perRow,
    scales: byRow(await readFloat32(scales.handle)),
    ...(grid.hasZeroPoints && { zeroPoints: byRow(Float32Array.from(zeros)) }),
  };
}

const isOne = ({ dims }: TensorHandle): boolean => elementCount(dims) === 1;

/** Zero points that all weights of a type share; signed codes need none. */
const MIDDLES: Readonly<Partial<Record<LinearType, NamedTensor>>> = {
  uint8: middleOf('uint8', 128),
  uint4: middleOf('uint4', 8),
};

function middleOf(type: LinearType, value: number): NamedTensor {
  const shape = { dataType: dataTypeNumber(type), dims: [] };
  return { name: `${type}_zero_point`, handle: bytesHandle(shape, Uint8Array.of(value)) };
}

function withoutPadding(codes: Uint8Array<ArrayBuffer>, width: number, stride: number): Uint8Array<ArrayBuffer> {
  if (width === stride) return codes;
  const rows = new Uint8Array((codes.length / stride) * width);
  for (let from = 0, to = 0; from < codes.length; from += stride, to += width)
    rows.set(codes.subarray(from, from + width), to);
  return rows;
}
