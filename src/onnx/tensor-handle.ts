import { ModelFormatError } from '../errors.js';
import type { ByteSource } from './byte-source.js';
import { findDataType, INT64, tensorByteLength } from './data-types.js';
import { encodeFloats } from './float-encoding.js';
import type { TensorHandle } from './onnx-model.js';

/** Element type and shape of a tensor. */
export interface TensorShape {
  /** `TensorProto.DataType` number. */
  readonly dataType: number;
  readonly dims: readonly number[];
}

/** A weight in memory. `bytes` are raw, little-endian, row-major. @throws ModelFormatError when their number does not fit. */
export function bytesHandle(shape: TensorShape, bytes: Uint8Array): TensorHandle {
  const byteLength = expectedByteLength(shape);
  if (bytes.byteLength !== byteLength) {
    throw new ModelFormatError(
      `A tensor ${describeShape(shape)} takes ${byteLength} bytes, but ${bytes.byteLength} were given.`,
    );
  }
  return handleOf(shape, async ({ offset, length }) => new Uint8Array(bytes.subarray(offset, offset + length)));
}

/** A weight in memory from numbers, rounded to the type. @throws NumericalError when a value is too large for it. */
export function floatsHandle(shape: TensorShape, values: Float32Array | Float64Array): TensorHandle {
  return bytesHandle(shape, encodeFloats(shape.dataType, values));
}

/** A list of int64 in memory, `[count]`. */
export function integersHandle(values: readonly number[]): TensorHandle {
  return bytesHandle(
    { dataType: INT64, dims: [values.length] },
    new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  );
}

/** A weight in a source from `offset`. The caller has checked the source's length. */
export function sourceHandle(shape: TensorShape, source: ByteSource, offset: number): TensorHandle {
  const handle = handleOf(shape, async (range) => {
    const bytes = await source.read(offset + range.offset, range.length);
    if (bytes.byteLength !== range.length) {
      throw new ModelFormatError(
        `${source.name}: ${range.length} bytes expected at ${offset + range.offset}, got ${bytes.byteLength}.`,
      );
    }
    return bytes;
  });
  return source.file === undefined ? handle : { ...handle, place: { ...source.file, offset } };
}

/** A weight whose bytes are computed as a whole on each read. */
export function computedHandle(shape: TensorShape, compute: () => Promise<Uint8Array<ArrayBuffer>>): TensorHandle {
  return handleOf(shape, async ({ offset, length }) => {
    const bytes = await compute();
    return length === bytes.byteLength ? bytes : bytes.slice(offset, offset + length);
  });
}

interface ReadRange {
  readonly offset: number;
  readonly length: number;
}

/** @param readRange called only with ranges inside the tensor */
function handleOf(shape: TensorShape, readRange: (range: ReadRange) => Promise<Uint8Array<ArrayBuffer>>): TensorHandle {
  const byteLength = expectedByteLength(shape);
  return {
    ...shape,
    byteLength,
    async read(range = { offset: 0, length: byteLength }) {
      checkRange(range, byteLength);
      return readRange(range);
    },
  };
}

/** Bytes that a shape takes. @throws ModelFormatError when the type has no width or a dimension is not a count. */
export function expectedByteLength(shape: TensorShape): number {
  const type = findDataType(shape.dataType);
  if (type === undefined) throw new ModelFormatError(`Data type ${shape.dataType} is not known to this library.`);
  const byteLength = tensorByteLength(type, shape.dims);
  if (shape.dims.some((dim) => !Number.isSafeInteger(dim) || dim < 0) || !Number.isSafeInteger(byteLength)) {
    throw new ModelFormatError(`[${shape.dims.join(', ')}] is not a valid shape of a tensor.`);
  }
  return byteLength;
}

/** For messages: `float16[576, 1536]`. */
export function describeShape({ dataType, dims }: TensorShape): string {
  return `${findDataType(dataType)?.name ?? `data type ${dataType}`}[${dims.join(', ')}]`;
}

/** @throws ModelFormatError when a range exceeds `byteLength` bytes. */
export function checkRange(range: ReadRange, byteLength: number): void {
  const isInside =
    Number.isSafeInteger(range.offset) &&
    Number.isSafeInteger(range.length) &&
    range.offset >= 0 &&
    range.length >= 0 &&
    range.offset + range.length <= byteLength;
  if (!isInside) {
    throw new ModelFormatError(
      `A range of ${range.length} bytes from ${range.offset} exceeds a tensor of ${byteLength} bytes.`,
    );
  }
}
