import { ModelFormatError } from '../errors.js';
import { parseJson } from '../parse-json.js';
import type { ByteSink, ByteSource } from './byte-source.js';
import { findDataType } from './data-types.js';
import type { TensorHandle } from './onnx-model.js';
import { expectedByteLength, sourceHandle } from './tensor-handle.js';

/** Tensors by name. */
export type TensorMap = ReadonlyMap<string, TensorHandle>;

/** Names of element types, by `TensorProto.DataType` number. */
const TYPE_NAMES: Readonly<Record<number, string>> = {
  1: 'F32',
  2: 'U8',
  3: 'I8',
  4: 'U16',
  5: 'I16',
  6: 'I32',
  7: 'I64',
  9: 'BOOL',
  10: 'F16',
  11: 'F64',
  12: 'U32',
  13: 'U64',
  16: 'BF16',
};

/** Largest header that readers of the format accept. */
const MAX_HEADER_BYTES = 100_000_000;

/** Bytes of the header's length, 64-bit little-endian. */
const LENGTH_BYTES = 8;

/** Weights are copied in pieces of this size. */
const COPY_BYTES = 8 * 2 ** 20;

/**
 * Writes tensors in the safetensors format: a JSON header, then their bytes without gaps, wide types first so that each
 * is aligned. The same tensors make the same bytes in any order.
 * @throws ModelFormatError for a type that the format has no name for, or a tensor that cannot be read.
 * @see https://github.com/huggingface/safetensors#format
 */
export async function writeSafetensors(sink: ByteSink, tensors: TensorMap): Promise<void> {
  const width = ({ dataType }: TensorHandle) => findDataType(dataType)?.bits ?? 0;
  const ordered = [...tensors].sort(([a, one], [b, other]) => width(other) - width(one) || (a < b ? -1 : 1));
  let end = 0;
  const header: Record<string, HeaderEntry> = {};
  for (const [name, { dataType, dims, byteLength }] of ordered) {
    const dtype = TYPE_NAMES[dataType];
    if (dtype === undefined) throw new ModelFormatError(`${name}: safetensors have no type for data type ${dataType}.`);
    header[name] = { dtype, shape: dims, data_offsets: [end, end + byteLength] };
    end += byteLength;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(Math.ceil(text.byteLength / LENGTH_BYTES) * LENGTH_BYTES).fill(' '.charCodeAt(0));
  padded.set(text);
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setBigUint64(0, BigInt(padded.byteLength), true);
  await sink.write(length);
  await sink.write(padded);
  for (const [, handle] of ordered) {
    for (let offset = 0; offset < handle.byteLength; offset += COPY_BYTES) {
      await sink.write(await handle.read({ offset, length: Math.min(COPY_BYTES, handle.byteLength - offset) }));
    }
  }
}

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/**
 * Opens a safetensors file; tensors are read on demand.
 * @throws ModelFormatError naming file and tensor when the file is truncated or its header is not what the format says.
 */
export async function readSafetensors(source: ByteSource): Promise<TensorMap> {
  const { name: file, byteLength } = source;
  const broken = (what: string) => new ModelFormatError(`${file}: ${what}. Get the file again.`);
  if (byteLength < LENGTH_BYTES) throw broken(`it has ${byteLength} bytes, too few for a safetensors file`);
  const head = await source.read(0, LENGTH_BYTES);
  const headerBytes = Number(new DataView(head.buffer, head.byteOffset).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || headerBytes > byteLength - LENGTH_BYTES)
    throw broken(`its header claims ${headerBytes} bytes, and the file has ${byteLength}`);
  const start = LENGTH_BYTES + headerBytes;
  const tensors = new Map<string, TensorHandle>();
  const ranges: { name: string; from: number; to: number }[] = [];
  for (const [name, entry] of Object.entries(parseHeader(await source.read(LENGTH_BYTES, headerBytes), broken))) {
    if (name === '__metadata__') continue;
    const { dataType, dims, from, to } = checkEntry(entry, (what) => broken(`tensor "${name}" ${what}`));
    if (to > byteLength - start)
      throw broken(`tensor "${name}" ends at byte ${start + to}, and the file has ${byteLength}`);
    ranges.push({ name, from, to });
    tensors.set(name, sourceHandle({ dataType, dims }, source, start + from));
  }
  let end = 0;
  for (const { name, from, to } of ranges.sort((a, b) => a.from - b.from || a.to - b.to)) {
    if (from !== end) throw broken(`tensor "${name}" begins at ${from} of the data, where ${end} was expected`);
    end = to;
  }
  if (start + end !== byteLength) throw broken(`it has ${byteLength} bytes where its header says ${start + end}`);
  return tensors;
}

function parseHeader(bytes: Uint8Array, broken: (what: string) => Error): Record<string, unknown> {
  try {
    const parsed: unknown = parseJson(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed))
      return parsed as Record<string, unknown>;
  } catch {
    throw broken('its header is not JSON');
  }
  throw broken('its header is not a JSON object');
}

function checkEntry(entry: unknown, broken: (what: string) => Error) {
  const { dtype, shape, data_offsets: offsets } = Object(entry) as Partial<Record<keyof HeaderEntry, unknown>>;
  const dataType = Number(Object.keys(TYPE_NAMES).find((number) => TYPE_NAMES[Number(number)] === dtype));
  if (Number.isNaN(dataType)) throw broken(`has the unknown type ${JSON.stringify(dtype)}`);
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isCount)) throw broken('has no shape');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) throw broken('has no data_offsets');
  const [from, to] = offsets as [number, number];
  const expected = expectedByteLength({ dataType, dims: shape });
  if (to - from !== expected) throw broken(`has ${to - from} bytes, but its shape takes ${expected}`);
  return { dataType, dims: shape, from, to };
}
