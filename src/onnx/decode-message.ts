import { type DescField, type DescMessage, fromBinary, type MessageShape, ScalarType } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { ModelFormatError } from '../errors.js';

/** Deepest nesting of messages; graphs in graphs take three levels each. As in protobuf's own parsers. */
const MAX_DEPTH = 100;

/**
 * Decodes a message and retains unknown fields. Stricter than `fromBinary`, which accepts nested lengths beyond the
 * parent's end and fields of a wrong wire type. The message may contain views of `bytes`.
 * @param where name of the decoded part, for messages
 * @throws ModelFormatError when the bytes contradict the schema.
 */
export function decodeMessage<D extends DescMessage>(
  schema: D,
  bytes: Uint8Array<ArrayBuffer>,
  where: string,
): MessageShape<D> {
  try {
    checkMessage(schema, { reader: new BinaryReader(bytes), bytes }, bytes.byteLength, 0);
    return fromBinary(schema, bytes);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ModelFormatError(`${where} is not a readable ${schema.name}: ${reason}. Get the file again.`, { cause });
  }
}

/** Reader position in bytes that are checked. */
interface Scan {
  readonly reader: BinaryReader;
  readonly bytes: Uint8Array;
}

function checkMessage(schema: DescMessage, scan: Scan, end: number, depth: number): void {
  const { reader } = scan;
  if (depth > MAX_DEPTH) throw new Error(`messages are nested deeper than ${MAX_DEPTH}`);
  const fields = new Map(schema.fields.map((field) => [field.number, field]));
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    const field = fields.get(number);
    if (field !== undefined) checkWireType(field, wireType);
    if (field?.message !== undefined) checkMessage(field.message, scan, endOfValue(reader, end), depth + 1);
    else if (field?.fieldKind === 'list' && wireType === WireType.LengthDelimited) checkPacked(field, scan, end);
    else reader.skip(wireType, number, 0);
    if (reader.pos > end) throw new Error(`field ${number} of ${schema.name} is longer than its message`);
  }
}

/** Reads a length. */
function endOfValue(reader: BinaryReader, end: number): number {
  const length = reader.uint32();
  if (reader.pos + length > end) throw new Error(`${length} bytes promised, ${Math.max(0, end - reader.pos)} left`);
  return reader.pos + length;
}

/** A packed list must end with an element. */
function checkPacked(field: DescField, { reader, bytes }: Scan, end: number): void {
  const start = reader.pos;
  const listEnd = endOfValue(reader, end);
  const byteLength = listEnd - reader.pos;
  const width = FIXED_WIDTHS[wireTypeOf(field)];
  const isComplete = width === undefined ? byteLength === 0 || bytes[listEnd - 1]! < 0x80 : byteLength % width === 0;
  if (!isComplete) throw new Error(`the list ${field.name} at byte ${start} ends inside an element`);
  reader.pos = listEnd;
}

function checkWireType(field: DescField, wireType: WireType): void {
  const expected = wireTypeOf(field);
  const isPacked = field.fieldKind === 'list' && wireType === WireType.LengthDelimited;
  if (wireType !== expected && !isPacked)
    throw new Error(`field ${field.name} has wire type ${wireType}, not ${expected}`);
}

function wireTypeOf(field: DescField): WireType {
  if (field.message !== undefined) return WireType.LengthDelimited;
  return (field.scalar !== undefined && SCALAR_WIRE_TYPES[field.scalar]) || WireType.Varint;
}

/** Bytes of an element of a packed list; strings and bytes are never packed, so that any length is valid. */
const FIXED_WIDTHS: Readonly<Partial<Record<WireType, number>>> = {
  [WireType.Bit32]: 4,
  [WireType.Bit64]: 8,
  [WireType.LengthDelimited]: 1,
};

/** Scalars that are not varints. */
const SCALAR_WIRE_TYPES: Readonly<Partial<Record<ScalarType, WireType>>> = {
  [ScalarType.FLOAT]: WireType.Bit32,
  [ScalarType.FIXED32]: WireType.Bit32,
  [ScalarType.SFIXED32]: WireType.Bit32,
  [ScalarType.DOUBLE]: WireType.Bit64,
  [ScalarType.FIXED64]: WireType.Bit64,
  [ScalarType.SFIXED64]: WireType.Bit64,
  [ScalarType.STRING]: WireType.LengthDelimited,
  [ScalarType.BYTES]: WireType.LengthDelimited,
};
