import { ModelFormatError, NumericalError, UnsupportedModelError } from '../errors.js';
import { BFLOAT16, FLOAT16, FLOAT32, FLOAT64, findDataType } from './data-types.js';
import {
  bfloat16ToFloat32Bits,
  float16ToFloat32Bits,
  float32ToBfloat16Bits,
  float32ToFloat16Bits,
} from './float-bits.js';
import type { TensorHandle } from './onnx-model.js';

/** Conversion of one floating-point type. */
interface FloatCodec {
  readonly bytesPerElement: number;
  /** Values at or beyond this magnitude round to infinity. */
  readonly overflow: number;
  decode(bytes: Uint8Array<ArrayBuffer>): Float32Array;
  encode(values: Float32Array | Float64Array): Uint8Array<ArrayBuffer>;
}

/** By `TensorProto.DataType` number. */
const FLOAT_CODECS: Readonly<Record<number, FloatCodec>> = {
  [FLOAT32]: {
    bytesPerElement: 4,
    overflow: 2 ** 128 - 2 ** 103,
    decode: (bytes) => new Float32Array(aligned(bytes)),
    encode: (values) => new Uint8Array(new Float32Array(values).buffer),
  },
  [FLOAT16]: sixteenBit(65520, float16ToFloat32Bits, float32ToFloat16Bits),
  [FLOAT64]: {
    bytesPerElement: 8,
    overflow: Infinity,
    decode: (bytes) => Float32Array.from(new Float64Array(aligned(bytes))),
    encode: (values) => new Uint8Array(new Float64Array(values).buffer),
  },
  [BFLOAT16]: sixteenBit(2 ** 128 - 2 ** 119, bfloat16ToFloat32Bits, float32ToBfloat16Bits),
};

/** Whether `readFloat32` and `encodeFloats` know a type: float, float16, bfloat16, double. */
export function isFloatType(dataType: number): boolean {
  return dataType in FLOAT_CODECS;
}

/**
 * Reads an entire floating-point weight, row-major; exact except for double, which is rounded.
 * @throws UnsupportedModelError when the type is not float, float16, bfloat16 or double.
 */
export async function readFloat32(handle: TensorHandle): Promise<Float32Array> {
  return decodeFloats(handle.dataType, await handle.read());
}

/** Raw little-endian bytes to float32. @throws UnsupportedModelError, ModelFormatError when bytes are left over. */
export function decodeFloats(dataType: number, bytes: Uint8Array<ArrayBuffer>): Float32Array {
  const codec = codecOf(dataType);
  if (bytes.byteLength % codec.bytesPerElement !== 0) {
    throw new ModelFormatError(
      `${bytes.byteLength} bytes are not a whole number of ${findDataType(dataType)?.name} elements (${codec.bytesPerElement} bytes each)`,
    );
  }
  return codec.decode(bytes);
}

/**
 * Values to raw little-endian bytes, rounded to nearest, ties to even; infinities and NaN pass through.
 * @throws NumericalError when a finite value is too large for the type.
 * @throws UnsupportedModelError when the type is not float, float16, bfloat16 or double.
 */
export function encodeFloats(dataType: number, values: Float32Array | Float64Array): Uint8Array<ArrayBuffer> {
  const codec = codecOf(dataType);
  const isExact = values instanceof Float32Array && codec.bytesPerElement >= values.BYTES_PER_ELEMENT;
  const tooLarge = isExact ? -1 : findTooLarge(values, codec.overflow);
  if (tooLarge !== -1) {
    throw new NumericalError(
      `Value ${values[tooLarge]} at position ${tooLarge} is too large for ${findDataType(dataType)?.name}. ` +
        'A repaired weight of this size usually means too little dampening or too little calibration text.',
    );
  }
  return codec.encode(values);
}

/** A plain loop, since a callback per weight would allocate. */
function findTooLarge(values: Float32Array | Float64Array, overflow: number): number {
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at]!;
    if (Math.abs(value) >= overflow && Number.isFinite(value)) return at;
  }
  return -1;
}

function codecOf(dataType: number): FloatCodec {
  const codec = FLOAT_CODECS[dataType];
  if (codec !== undefined) return codec;
  const name = findDataType(dataType)?.name ?? `data type ${dataType}`;
  throw new UnsupportedModelError(
    `Weights of ${name} cannot be read as numbers; float, float16, bfloat16 and double can.`,
  );
}

function sixteenBit(overflow: number, toBits: (x: number) => number, fromBits: (x: number) => number): FloatCodec {
  return {
    bytesPerElement: 2,
    overflow,
    decode(bytes) {
      const words = new Uint16Array(aligned(bytes));
      const bits = new Uint32Array(words.length);
      for (let i = 0; i < words.length; i++) bits[i] = toBits(words[i]!);
      return new Float32Array(bits.buffer);
    },
    encode(values) {
      const { buffer, byteOffset, length } = roundToOdd(values);
      // Signed: an unsigned number of 32 bits is not a small integer to V8.
      const bits = new Int32Array(buffer, byteOffset, length);
      const words = new Uint16Array(values.length);
      for (let i = 0; i < words.length; i++) words[i] = fromBits(bits[i]!);
      return new Uint8Array(words.buffer);
    },
  };
}

/**
 * Float32 values that round to the same 16 bits as the given ones: an inexact step sets the lowest bit, so that no
 * false tie appears (double rounding can be off by one unit).
 */
function roundToOdd(values: Float32Array | Float64Array): Float32Array {
  if (values.BYTES_PER_ELEMENT === Float32Array.BYTES_PER_ELEMENT) return values as Float32Array;
  const rounded = new Float32Array(values);
  const bits = new Uint32Array(rounded.buffer);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    const near = rounded[i]!;
    if (near === value || Number.isNaN(value) || (bits[i]! & 1) === 1) continue;
    // Moves to the odd neighbour on the side of the exact value.
    bits[i] = bits[i]! + (Math.abs(near) > Math.abs(value) ? -1 : 1);
  }
  return rounded;
}

/** A copy at offset 0, where typed arrays may start. */
function aligned(bytes: Uint8Array<ArrayBuffer>): ArrayBuffer {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}
