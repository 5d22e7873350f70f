import { create } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { FLOAT32, INT64 } from './data-types.js';

/** Attribute values a new node can carry: an integer, a float or a tensor in an object, a string, or integers. */
export type AttributeValue =
  | number
  | { readonly float: number }
  | { readonly tensor: TensorProto }
  | string
  | readonly number[];

/** A node to build; `''` means an absent optional input or output. */
export interface NodeSpec {
  readonly op: string;
  readonly domain?: string;
  readonly name?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
}

/** Builds a node. */
export function makeNode(spec: NodeSpec): NodeProto {
  return create(NodeProtoSchema, {
    opType: spec.op,
    domain: spec.domain ?? '',
    name: spec.name ?? '',
    input: [...spec.inputs],
    output: [...spec.outputs],
    attribute: Object.entries(spec.attributes ?? {}).map(([name, value]) => makeAttribute(name, value)),
  });
}

function makeAttribute(name: string, value: AttributeValue): AttributeProto {
  if (typeof value === 'number') {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) });
  }
  if (typeof value === 'string') {
    return create(AttributeProtoSchema, {
      name,
      type: AttributeProto_AttributeType.STRING,
      s: new TextEncoder().encode(value) as Uint8Array<ArrayBuffer>,
    });
  }
  if ('tensor' in value) {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.TENSOR, t: value.tensor });
  }
  if ('float' in value) {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.FLOAT, f: value.float });
  }
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INTS, ints: value.map(BigInt) });
}

/** A one-dimensional int64 initializer with its payload inside. */
export function makeInt64Initializer(name: string, values: readonly number[]): TensorProto {
  return makeInitializer(name, INT64, [values.length], new Uint8Array(BigInt64Array.from(values, BigInt).buffer));
}

/** A float32 initializer with its payload inside. */
export function makeFloatInitializer(name: string, dims: readonly number[], values: ArrayLike<number>): TensorProto {
  return makeInitializer(name, FLOAT32, dims, new Uint8Array(Float32Array.from(values).buffer));
}

/** An initializer with raw payload. `dataType` is ONNX's number. */
export function makeInitializer(
  name: string,
  dataType: number,
  dims: readonly number[],
  rawData: Uint8Array<ArrayBuffer>,
): TensorProto {
  return create(TensorProtoSchema, { name, dataType, dims: dims.map(BigInt), rawData });
}

/** Declares a graph input or output. A string is a symbolic dimension; without `dims` only the type is declared. */
export function makeValueInfo(name: string, dataType: number, dims?: readonly (number | string)[]): ValueInfoProto {
  const shape =
    dims &&
    create(TensorShapeProtoSchema, {
      dim: dims.map((dim) =>
        create(TensorShapeProto_DimensionSchema, {
          value: typeof dim === 'number' ? { case: 'dimValue', value: BigInt(dim) } : { case: 'dimParam', value: dim },
        }),
      ),
    });
  const tensor = create(TypeProto_TensorSchema, { elemType: dataType, ...(shape && { shape }) });
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensor } }),
  });
}
