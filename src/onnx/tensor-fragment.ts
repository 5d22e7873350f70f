import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { StringStringEntryProtoSchema, type TensorProto, TensorProto_DataLocation, TensorProtoSchema } from 'onnx-buf';
import type { TensorHandle } from './onnx-model.js';

/** One initializer as it will be written. */
export interface PlannedTensor {
  readonly tensor: TensorProto;
  /** Absent for strings, which stay in `tensor`. */
  readonly handle?: TensorHandle;
  /** Absent = the payload follows in the protobuf. */
  readonly outside?: ExternalLocation;
}

/** Position of a weight in an external file. */
export interface ExternalLocation {
  /** Relative to the model file's folder. */
  readonly location: string;
  readonly offset: number;
}

/** An initializer as in a file: its bytes before the payload, and an inline payload. */
export interface TensorFragment {
  readonly head: Uint8Array<ArrayBuffer>;
  readonly payload?: TensorHandle;
  /** Of head and payload. */
  readonly byteLength: number;
}

/** Encodes an initializer; shape and type are those of its handle. */
export function tensorFragment({ tensor, handle, outside }: PlannedTensor): TensorFragment {
  if (handle === undefined) return headOnly(toBinary(TensorProtoSchema, tensor));
  const copy = create(TensorProtoSchema);
  Object.assign(copy, tensor, { dataType: handle.dataType, dims: handle.dims.map(BigInt), externalData: [] });
  if (outside !== undefined) {
    copy.externalData = externalEntries({ ...outside, length: handle.byteLength });
    copy.dataLocation = TensorProto_DataLocation.EXTERNAL;
    return headOnly(toBinary(TensorProtoSchema, copy));
  }
  const encoded = toBinary(TensorProtoSchema, copy);
  if (handle.byteLength === 0) return headOnly(encoded);
  const head = new BinaryWriter()
    .raw(encoded)
    .tag(TensorProtoSchema.field.rawData.number, WireType.LengthDelimited)
    .uint32(handle.byteLength)
    .finish();
  return { head, payload: handle, byteLength: head.byteLength + handle.byteLength };
}

function headOnly(head: Uint8Array<ArrayBuffer>): TensorFragment {
  return { head, byteLength: head.byteLength };
}

function externalEntries(entries: Readonly<Record<string, string | number>>) {
  return Object.entries(entries).map(([key, value]) =>
    create(StringStringEntryProtoSchema, { key, value: String(value) }),
  );
}
