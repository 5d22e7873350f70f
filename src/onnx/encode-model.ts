import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { GraphProtoSchema, type ModelProto, ModelProtoSchema, type TensorProto, TensorProtoSchema } from 'onnx-buf';

/** Payloads below this are copied as quickly by the general encoder. */
const LARGE = 4096;

/**
 * Encodes a model whose weights are in memory, as `toBinary` does, but copies every large payload once: the general encoder
 * copies it at every level of nesting. Large initializers follow the others, in a second piece of the graph, which readers
 * join to the first (protobuf's rule for a message field that comes twice).
 */
export function encodeModel(model: ModelProto): Uint8Array<ArrayBuffer> {
  const graph = model.graph!;
  const isLarge = ({ rawData }: TensorProto) => rawData.byteLength >= LARGE;
  const initializer = graph.initializer.filter((tensor) => !isLarge(tensor));
  const head = toBinary(ModelProtoSchema, { ...model, graph: { ...graph, initializer } });
  const pieces = graph.initializer.filter(isLarge).flatMap(encodeTensor);
  if (pieces.length === 0) return head;
  return join([head, startOf(ModelProtoSchema.field.graph.number, lengthOf(pieces)), ...pieces]);
}

function encodeTensor({ rawData, ...rest }: TensorProto): Uint8Array[] {
  const own = toBinary(TensorProtoSchema, Object.assign(create(TensorProtoSchema), rest));
  const tensor = [own, startOf(TensorProtoSchema.field.rawData.number, rawData.byteLength), rawData];
  return [startOf(GraphProtoSchema.field.initializer.number, lengthOf(tensor)), ...tensor];
}

/** Tag and length of a field whose bytes follow. */
const startOf = (field: number, byteLength: number): Uint8Array =>
  new BinaryWriter().tag(field, WireType.LengthDelimited).uint32(byteLength).finish();

const lengthOf = (pieces: readonly Uint8Array[]): number => pieces.reduce((sum, { byteLength }) => sum + byteLength, 0);

function join(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(lengthOf(pieces));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.byteLength;
  }
  return joined;
}
