import { type TensorProto, TensorProto_DataLocation } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import type { ByteSource } from './byte-source.js';
import { findDataType, STRING_TYPE } from './data-types.js';
import type { ExternalDataReader } from './external-data.js';
import type { TensorHandle } from './onnx-model.js';
import type { StoredTensor } from './read-structure.js';
import { bytesHandle, describeShape, expectedByteLength, sourceHandle, type TensorShape } from './tensor-handle.js';
import { countStorageForms, typedElementBytes } from './typed-elements.js';
import type { ByteRange } from './walk-records.js';

/** A tensor's payload, and the file it came from when that is not the model file. */
export interface TensorPayload {
  readonly handle: TensorHandle;
  readonly externalFile?: string;
}

/** Sources of a payload. */
export interface PayloadSources {
  readonly model: ByteSource;
  readonly external: ExternalDataReader;
}

/**
 * Finds a tensor's payload in any storage form, and checks its length against shape and type.
 * @throws ModelFormatError naming the tensor.
 */
export async function findPayload(stored: StoredTensor, sources: PayloadSources): Promise<TensorPayload> {
  const { tensor, unread } = stored;
  const shape = shapeOf(tensor, sources.model.name);
  const byteLength = expectedByteLength(shape);
  if (isExternal(tensor)) {
    const { file, source, offset } = await sources.external(tensor, byteLength);
    return { handle: sourceHandle(shape, source, offset), externalFile: file };
  }
  if (unread !== undefined) return { handle: rangesHandle(shape, sources.model, unread, tensor.name) };
  const bytes = storedBytes(tensor);
  if (bytes.byteLength !== byteLength || countStorageForms(tensor) > 1)
    throw wrongLength(tensor, sources.model, bytes.byteLength);
  return { handle: bytesHandle(shape, bytes) };
}

/** Whether a tensor's elements are in another file. */
export function isExternal(tensor: TensorProto): boolean {
  return tensor.dataLocation === TensorProto_DataLocation.EXTERNAL;
}

/** Whether a tensor contains strings, which have no raw bytes. */
export function isString(tensor: TensorProto): boolean {
  return tensor.dataType === STRING_TYPE;
}

/** Shape of a tensor. @throws ModelFormatError when it is impossible, naming the tensor. */
export function shapeOf(tensor: TensorProto, modelName: string): TensorShape {
  const shape = { dataType: tensor.dataType, dims: tensor.dims.map(Number) };
  try {
    expectedByteLength(shape);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ModelFormatError(`${modelName}: tensor "${tensor.name}": ${reason}`, { cause });
  }
  return shape;
}

function storedBytes(tensor: TensorProto): Uint8Array {
  return tensor.rawData.length > 0 ? tensor.rawData : typedElementBytes(tensor, findDataType(tensor.dataType)!);
}

/** A payload in several ranges is joined when it is read. */
function rangesHandle(shape: TensorShape, model: ByteSource, ranges: readonly ByteRange[], name: string): TensorHandle {
  const found = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  if (found !== expectedByteLength(shape)) throw wrongLength({ name, ...shape }, model, found);
  return sourceHandle(
    shape,
    ranges.length === 1 ? model : joinRanges(model, ranges),
    ranges.length === 1 ? ranges[0]!.start : 0,
  );
}

/** Ranges of a source as one source. */
function joinRanges(source: ByteSource, ranges: readonly ByteRange[]): ByteSource {
  return {
    name: source.name,
    byteLength: ranges.reduce((sum, { start, end }) => sum + end - start, 0),
    async read(offset, length) {
      const out = new Uint8Array(length);
      let begin = 0;
      for (const { start, end } of ranges) {
        const from = Math.max(begin, offset);
        const to = Math.min(begin + end - start, offset + length);
        if (from < to) out.set(await source.read(start + from - begin, to - from), from - offset);
        begin += end - start;
      }
      return out;
    },
  };
}

function wrongLength(
  tensor: { readonly name: string; readonly dataType: number; readonly dims: readonly (number | bigint)[] },
  model: ByteSource,
  found: number,
): ModelFormatError {
  const shape = { dataType: tensor.dataType, dims: tensor.dims.map(Number) };
  return new ModelFormatError(
    `${model.name}: tensor "${tensor.name}" is ${describeShape(shape)}, ${expectedByteLength(shape)} bytes, ` +
      `but ${found} bytes are stored. Get the file again.`,
  );
}
