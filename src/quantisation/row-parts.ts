import { freeBytes } from '../free-bytes.js';
import { copyTransposed } from '../linalg/matrix-block.js';
import { decodeFloats, encodeFloats } from '../onnx/float-encoding.js';
import type { WeightRows } from './block-codes.js';
import type { QuantisableWeight } from './find-weights.js';

/** Largest number of weights that are converted to floats at once: an LM head may take two gigabytes. */
const MAX_FLOATS = 2 ** 24;

/** Rows `first` to `last` (exclusive). */
export type RowRange = readonly [first: number, last: number];

/** Parts of a weight `[N, K]` that are converted to floats one after the other. */
export function rowParts({ outCount, inCount }: Pick<RowLayout, 'outCount' | 'inCount'>): RowRange[] {
  const step = Math.max(1, Math.floor(MAX_FLOATS / inCount));
  return Array.from({ length: Math.ceil(outCount / step) }, (_, part) => [
    part * step,
    Math.min(outCount, (part + 1) * step),
  ]);
}

/** Layout of a weight in its file: `[N, K]`, or `[K, N]` if the input axis is 0. */
export interface RowLayout extends Pick<QuantisableWeight, 'inputAxis' | 'inCount' | 'outCount'> {
  /** `TensorProto.DataType` number. */
  readonly dataType: number;
}

/** Decodes rows of a weight. */
export function decodeRows(
  bytes: Uint8Array<ArrayBuffer>,
  { inputAxis, inCount, outCount, dataType }: RowLayout,
  [first, last]: RowRange,
): Float32Array {
  const itemBytes = bytes.byteLength / (inCount * outCount);
  const rowBytes = inCount * itemBytes;
  if (inputAxis === 1) return decodeFloats(dataType, bytes.subarray(first * rowBytes, last * rowBytes));
  const picked = new Uint8Array((last - first) * rowBytes);
  copyTransposed(
    { values: itemsOf(bytes, itemBytes), width: outCount, start: first },
    { values: itemsOf(picked, itemBytes), width: inCount },
    [inCount, last - first],
  );
  const values = decodeFloats(dataType, picked);
  freeBytes(picked);
  return values;
}

/** Encodes rows into a weight's bytes. */
export function encodeRows(
  bytes: Uint8Array<ArrayBuffer>,
  { inputAxis, inCount, outCount, dataType }: RowLayout,
  { first, values }: WeightRows,
): void {
  const encoded = encodeFloats(dataType, values);
  const itemBytes = encoded.byteLength / values.length;
  if (inputAxis === 1) bytes.set(encoded, first * inCount * itemBytes);
  else
    copyTransposed(
      { values: itemsOf(encoded, itemBytes), width: inCount },
      { values: itemsOf(bytes, itemBytes), width: outCount, start: first },
      [values.length / inCount, inCount],
    );
  freeBytes(encoded);
}

/** View of bytes as elements. */
function itemsOf({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>, itemBytes: number) {
  const Items = { 2: Uint16Array, 4: Uint32Array, 8: Float64Array }[itemBytes] ?? Uint8Array;
  return new Items(buffer, byteOffset, byteLength / itemBytes);
}
