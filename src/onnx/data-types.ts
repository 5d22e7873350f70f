/** Typed list of a TensorProto that may contain a type's elements instead of `raw_data`. */
export type TypedStorage = 'floatData' | 'int32Data' | 'int64Data' | 'doubleData' | 'uint64Data';

/** One ONNX element type. */
export interface DataType {
  /** `TensorProto.DataType` number. */
  readonly number: number;
  /** ONNX's own name, lower case. */
  readonly name: string;
  /** Bits of one element; below 8, several share a byte, first element in the lowest bits. */
  readonly bits: number;
  readonly typed: TypedStorage;
}

const row = <N extends string>(number: number, name: N, bits: number, typed: TypedStorage) =>
  ({ number, name, bits, typed }) as const;

/** Every ONNX element type with a fixed width; strings have none and stay inside the protobuf. */
export const DATA_TYPES = [
  row(1, 'float', 32, 'floatData'),
  row(2, 'uint8', 8, 'int32Data'),
  row(3, 'int8', 8, 'int32Data'),
  row(4, 'uint16', 16, 'int32Data'),
  row(5, 'int16', 16, 'int32Data'),
  row(6, 'int32', 32, 'int32Data'),
  row(7, 'int64', 64, 'int64Data'),
  row(9, 'bool', 8, 'int32Data'),
  row(10, 'float16', 16, 'int32Data'),
  row(11, 'double', 64, 'doubleData'),
  row(12, 'uint32', 32, 'uint64Data'),
  row(13, 'uint64', 64, 'uint64Data'),
  row(14, 'complex64', 64, 'floatData'),
  row(15, 'complex128', 128, 'doubleData'),
  row(16, 'bfloat16', 16, 'int32Data'),
  row(17, 'float8e4m3fn', 8, 'int32Data'),
  row(18, 'float8e4m3fnuz', 8, 'int32Data'),
  row(19, 'float8e5m2', 8, 'int32Data'),
  row(20, 'float8e5m2fnuz', 8, 'int32Data'),
  row(21, 'uint4', 4, 'int32Data'),
  row(22, 'int4', 4, 'int32Data'),
  row(23, 'float4e2m1', 4, 'int32Data'),
  row(24, 'float8e8m0', 8, 'int32Data'),
  row(25, 'uint2', 2, 'int32Data'),
  row(26, 'int2', 2, 'int32Data'),
] as const satisfies readonly DataType[];

/** Name of an ONNX element type with a fixed width. */
export type DataTypeName = (typeof DATA_TYPES)[number]['name'];

/** `TensorProto.DataType` numbers. */
export const FLOAT32 = 1;
export const UINT8 = 2;
export const INT16 = 5;
export const INT32 = 6;
export const INT64 = 7;
export const BOOL = 9;
export const FLOAT16 = 10;
export const FLOAT64 = 11;
export const BFLOAT16 = 16;

/** `TensorProto.DataType.STRING`, the one type without a width. */
export const STRING_TYPE = 8;

/** The row of a `TensorProto.DataType` number, or undefined for strings and for types this library does not know. */
export function findDataType(number: number): DataType | undefined {
  return DATA_TYPES.find((type) => type.number === number);
}

/** The number that ONNX files use for a type. */
export function dataTypeNumber(name: DataTypeName): number {
  return DATA_TYPES.find((type) => type.name === name)!.number;
}

/** Bytes of a dense tensor: elements packed without gaps, the last byte padded. Dims must be safe non-negative integers. */
export function tensorByteLength(type: DataType, dims: readonly number[]): number {
  return Math.ceil((dims.reduce((product, dim) => product * dim, 1) * type.bits) / 8);
}
