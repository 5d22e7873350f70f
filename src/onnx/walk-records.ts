import { WireType } from '@bufbuild/protobuf/wire';
import { ModelFormatError } from '../errors.js';
import type { ByteSource } from './byte-source.js';

/** Position of a field of a protobuf message in the source. */
export interface WireRecord {
  readonly field: number;
  readonly wireType: WireType;
  /** First byte of the tag. */
  readonly start: number;
  /** First byte of the value, after tag and length. */
  readonly valueStart: number;
  /** After the last byte. */
  readonly end: number;
}

/** A range of a source. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Longest tag (5 bytes) with a length or value (10 bytes). */
const MAX_HEADER_BYTES = 15;

/**
 * The fields of the message that fills `range`, without reading their contents.
 * @throws ModelFormatError when a field exceeds the message.
 */
export async function* walkRecords(source: ByteSource, range: ByteRange): AsyncGenerator<WireRecord> {
  for (let start = range.start; start < range.end; ) {
    const header = await source.read(start, Math.min(MAX_HEADER_BYTES, range.end - start));
    const record = parseRecord(header, start, source.name);
    if (record.end > range.end) {
      throw damaged(
        source.name,
        start,
        `field ${record.field} claims to end at byte ${record.end}, its message ends at ${range.end}`,
      );
    }
    yield record;
    start = record.end;
  }
}

/** A source that reads ahead, so that small reads are combined. Its reads are views of a shared buffer. */
export function readAhead(source: ByteSource, windowBytes = 2 ** 16): ByteSource {
  let window = new Uint8Array(0);
  let windowStart = 0;
  return {
    name: source.name,
    byteLength: source.byteLength,
    async read(offset, length) {
      if (length > windowBytes) return source.read(offset, length);
      if (offset < windowStart || offset + length > windowStart + window.byteLength) {
        window = await source.read(offset, Math.max(length, Math.min(windowBytes, source.byteLength - offset)));
        windowStart = offset;
      }
      return window.subarray(offset - windowStart, offset - windowStart + length);
    },
  };
}

function parseRecord(header: Uint8Array, start: number, name: string): WireRecord {
  const tag = parseVarint(header, 0);
  const field = tag === undefined ? 0 : Math.floor(tag.value / 8);
  const sized = tag && MEASURE[tag.value % 8]?.(header, tag.end);
  if (tag === undefined || sized === undefined || tag.end > 5 || field === 0) {
    throw damaged(name, start, 'no field of a message begins here');
  }
  return { field, wireType: tag.value % 8, start, valueStart: start + sized.valueStart, end: start + sized.end };
}

/** By wire type: start and end of a value in the header. ONNX has no groups. */
const MEASURE: Readonly<
  Record<number, (header: Uint8Array, at: number) => { valueStart: number; end: number } | undefined>
> = {
  [WireType.Varint](header, at) {
    const varint = parseVarint(header, at);
    return varint && { valueStart: at, end: varint.end };
  },
  [WireType.Bit64]: (_, at) => ({ valueStart: at, end: at + 8 }),
  [WireType.Bit32]: (_, at) => ({ valueStart: at, end: at + 4 }),
  [WireType.LengthDelimited](header, at) {
    const length = parseVarint(header, at);
    return length && { valueStart: length.end, end: length.end + length.value };
  },
};

/** A varint as a number (exact up to 2^53, enough for any length), or undefined when it does not end. */
function parseVarint(bytes: Uint8Array, at: number): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  return undefined;
}

function damaged(name: string, at: number, what: string): ModelFormatError {
  return new ModelFormatError(`${name} is damaged at byte ${at}: ${what}. Get the file again.`);
}
