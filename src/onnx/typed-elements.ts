import type { TensorProto } from 'onnx-buf';
import { type DataType, STRING_TYPE, type TypedStorage } from './data-types.js';

/** Raw little-endian bytes of a tensor stored in a typed list. */
export function typedElementBytes(tensor: TensorProto, type: DataType): Uint8Array<ArrayBuffer> {
  return new Uint8Array(TO_BYTES[type.typed](tensor, type.bits).buffer);
}

/** Number of storage forms that a tensor uses; more than one is invalid. */
export function countStorageForms(tensor: TensorProto): number {
  const lists = Object.keys(TO_BYTES) as TypedStorage[];
  return lists.filter((list) => tensor[list].length > 0).length + (tensor.rawData.length > 0 ? 1 : 0);
}

/** Removes the payload: name, shape, type and comments remain. */
export function dropPayload(tensor: TensorProto): void {
  for (const list of Object.keys(TO_BYTES) as TypedStorage[]) tensor[list].length = 0;
  if (tensor.dataType !== STRING_TYPE) tensor.stringData.length = 0;
  tensor.externalData.length = 0;
  // Deleted optional fields read as their default.
  delete (tensor as Partial<TensorProto>).rawData;
  delete (tensor as Partial<TensorProto>).dataLocation;
}

/** Integers keep their lowest bits: negative small integers are sign-extended, and halves are bit patterns. */
const TO_BYTES: Readonly<
  Record<TypedStorage, (tensor: TensorProto, bits: number) => { readonly buffer: ArrayBuffer }>
> = {
  floatData: ({ floatData }) => Float32Array.from(floatData),
  doubleData: ({ doubleData }) => Float64Array.from(doubleData),
  int64Data: ({ int64Data }) => BigInt64Array.from(int64Data),
  uint64Data: ({ uint64Data }, bits) =>
    bits === 64
      ? BigUint64Array.from(uint64Data)
      : Uint32Array.from(uint64Data, (value) => Number(BigInt.asUintN(32, value))),
  int32Data({ int32Data }, bits) {
    if (bits === 32) return Int32Array.from(int32Data);
    return bits === 16 ? Uint16Array.from(int32Data) : Uint8Array.from(int32Data);
  },
};
