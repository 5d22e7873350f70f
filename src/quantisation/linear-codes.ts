import { ModelFormatError, UnsupportedModelError } from '../errors.js';
import { findDataType, UINT8 } from '../onnx/data-types.js';
import { readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { sliceHandle } from '../onnx/slice-handle.js';
import { computedHandle } from '../onnx/tensor-handle.js';
import { elementCount } from '../onnx/value.js';
import { completeBlocks } from './complete-blocks.js';
import { packBits, unpackBits } from './pack-bits.js';

/** A tensor of a file, and its name. */
export interface NamedTensor {
  readonly name: string;
  readonly handle: TensorHandle;
}

/**
 * A weight in linear codes: `(code - zero point) scale`.
 * @see ONNX's DequantizeLinear
 */
export interface LinearCodes {
  /** Has the weight's shape. */
  readonly codes: NamedTensor;
  /** A single scale, one per index of an axis, or one per block of it: then with the codes' shape except for that axis. */
  readonly scales: NamedTensor;
  /** In the type of the codes: one per scale, or a single one; absent: zero. */
  readonly zeroPoints?: NamedTensor | undefined;
  /** Axis along which scales change, counted from the front; unused for a single scale. */
  readonly axis: number;
  /** Indices of the axis that share a scale; 0: every index has its own. */
  readonly blockSize: number;
}

/**
 * Dequantises linear codes, row-major.
 * @throws UnsupportedModelError for codes that are not integers of 4 or 8 bits; ModelFormatError for scales that are NaN,
 * infinite or 0, or a wrong number of scales or zero points.
 */
export async function readLinearCodes(linear: LinearCodes): Promise<Float32Array> {
  const { codes, zeroPoints, axis, blockSize } = linear;
  const { dims } = codes.handle;
  const scales = await readFloat32(linear.scales.handle);
  checkScales(linear, scales);
  const numbers = await readIntegers(codes.handle);
  const zeros = zeroPoints === undefined ? [0] : await readIntegers(zeroPoints.handle);
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const along = dims[axis] ?? 1;
  const shared = blockSize > 0 ? blockSize : 1;
  const steps = Math.ceil(along / shared);
  const values = new Float32Array(numbers.length);
  for (let at = 0; at < values.length; at += 1) {
    let place = 0;
    if (scales.length > 1) {
      const step = Math.floor((Math.floor(at / inner) % along) / shared);
      place = blockSize > 0 ? (Math.floor(at / (inner * along)) * steps + step) * inner + (at % inner) : step;
    }
    values[at] = (numbers[at]! - zeros[zeros.length > 1 ? place : 0]!) * scales[place]!;
  }
  return values;
}

/** Number of scales or zero points of a weight, unless there is a single one. */
function scaleCount({ codes, axis, blockSize }: LinearCodes): number {
  const along = codes.handle.dims[axis] ?? 1;
  return blockSize > 0 ? Math.ceil(along / blockSize) * (elementCount(codes.handle.dims) / along) : along;
}

function checkScales(linear: LinearCodes, scales: Float32Array): void {
  const { codes, zeroPoints, axis, blockSize } = linear;
  const { dims } = codes.handle;
  const invalid = scales.findIndex((value) => !Number.isFinite(value) || value === 0);
  if (invalid >= 0)
    throw new ModelFormatError(
      `scale ${invalid} of "${codes.name}" of dims [${dims}] is ${scales[invalid]}; expected a finite number other than 0. Get the file again.`,
    );
  const expected = scaleCount(linear);
  const zeroCount = zeroPoints === undefined ? 1 : elementCount(zeroPoints.handle.dims);
  for (const [part, found] of [['scales', scales.length] as const, ['zero points', zeroCount] as const]) {
    if (found === 1 || found === expected) continue;
    throw new ModelFormatError(
      `"${codes.name}" of dims [${dims}] has ${found} ${part}, expected ${expected} along axis ${axis}${blockSize > 0 ? ` in blocks of ${blockSize}` : ''}. Get the file again.`,
    );
  }
}

/**
 * Cuts codes to the indices `keep` of an axis, without rounding.
 * @returns undefined if the cut divides blocks that share a scale.
 */
export function cutLinearCodes(linear: LinearCodes, axis: number, keep: Int32Array): LinearCodes | undefined {
  const { codes, scales, zeroPoints } = linear;
  const isAcross = axis === linear.axis;
  const blocks =
    linear.blockSize > 0 && isAcross ? completeBlocks(keep, codes.handle.dims[axis]!, linear.blockSize) : keep;
  if (blocks === undefined) return undefined;
  const cut = ({ name, handle }: NamedTensor): NamedTensor => {
    if (elementCount(handle.dims) === 1 || elementCount(handle.dims) !== scaleCount(linear)) return { name, handle };
    if (linear.blockSize > 0) return { name, handle: sliceCodes(handle, axis, blocks) };
    return { name, handle: isAcross ? sliceCodes({ ...handle, dims: [elementCount(handle.dims)] }, 0, keep) : handle };
  };
  return {
    ...linear,
    codes: { ...codes, handle: sliceCodes(codes.handle, axis, keep) },
    scales: cut(scales),
    zeroPoints: zeroPoints && cut(zeroPoints),
  };
}

/** `sliceHandle` for codes that may share bytes. */
export function sliceCodes(handle: TensorHandle, axis: number, keep: Int32Array): TensorHandle {
  const { dataType, dims } = handle;
  const { bits } = codeType(handle);
  if (bits >= 8) return sliceHandle(handle, axis, keep);
  const whole = computedHandle({ dataType: UINT8, dims }, async () =>
    unpackBits(await handle.read(), bits, elementCount(handle.dims)),
  );
  const cut = sliceHandle(whole, axis, keep);
  return computedHandle({ dataType, dims: cut.dims }, async () =>
    packBits(await cut.read(), bits, elementCount(cut.dims)),
  );
}

/** Element type of codes, or of their scales. */
export const codeType = ({
  dataType,
}: Pick<TensorHandle, 'dataType'>): { readonly name: string; readonly bits: number } =>
  findDataType(dataType) ?? { name: `data type ${dataType}`, bits: 8 };

/** Whether a tensor may be a weight's codes. */
export const hasCodeType = ({ dataType }: Pick<TensorHandle, 'dataType'>): boolean =>
  CODE_TYPES.has(codeType({ dataType }).name);

const CODE_TYPES: ReadonlySet<string> = new Set(['uint8', 'int8', 'uint4', 'int4']);

/** @throws UnsupportedModelError for codes that are not integers of 4 or 8 bits */
export async function readIntegers(handle: TensorHandle): Promise<ArrayLike<number>> {
  const bytes = await handle.read();
  const { name, bits } = codeType(handle);
  if (name === 'uint8') return bytes;
  if (name === 'int8') return new Int8Array(bytes.buffer);
  if (name === 'int32') return new Int32Array(bytes.buffer);
  if (name !== 'uint4' && name !== 'int4')
    throw new UnsupportedModelError(`codes of ${name} cannot be read; expected integers of 4 or 8 bits`);
  const codes = unpackBits(bytes, bits, elementCount(handle.dims));
  return name === 'uint4' ? codes : Int8Array.from(codes, (code) => (code > 7 ? code - 16 : code));
}
