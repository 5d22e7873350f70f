import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { GraphProtoSchema, type ModelProto, ModelProtoSchema, type TensorProto } from 'onnx-buf';
import { concatBytes } from './memory-folder.js';
import { type TensorFragment, tensorFragment } from './tensor-fragment.js';
import { bytesHandle } from './tensor-handle.js';

/** A model without its graph, and the graph without its initializers. */
export interface EncodedStructure {
  readonly model: Uint8Array<ArrayBuffer>;
  readonly graph: Uint8Array<ArrayBuffer>;
}

export function encodeStructure(proto: ModelProto): EncodedStructure {
  const model = Object.assign(create(ModelProtoSchema), proto);
  delete (model as Partial<typeof model>).graph;
  const graph = Object.assign(create(GraphProtoSchema), proto.graph, { initializer: [] });
  return { model: toBinary(ModelProtoSchema, model), graph: toBinary(GraphProtoSchema, graph) };
}

/** What a file begins with, up to the initializers: protobuf lets the fields of a message come in any order. */
export function encodeHead({ model, graph }: EncodedStructure, initializerBytes: number): Uint8Array<ArrayBuffer> {
  return new BinaryWriter()
    .raw(model)
    .tag(ModelProtoSchema.field.graph.number, WireType.LengthDelimited)
    .uint32(graph.byteLength + initializerBytes)
    .raw(graph)
    .finish();
}

/** An initializer as a field of its graph. */
export function initializerField(fragment: TensorFragment): TensorFragment {
  const head = new BinaryWriter()
    .tag(GraphProtoSchema.field.initializer.number, WireType.LengthDelimited)
    .uint32(fragment.byteLength)
    .raw(fragment.head)
    .finish();
  return { ...fragment, head, byteLength: head.byteLength + fragment.byteLength - fragment.head.byteLength };
}

/**
 * Encodes a model whose weights are in memory as `toBinary` does, but copies every payload once: the general encoder copies
 * it at every level of nesting.
 */
export function encodeModel(proto: ModelProto): Uint8Array<ArrayBuffer> {
  const initializers = proto.graph!.initializer.flatMap(encodeInitializer);
  const byteLength = initializers.reduce((sum, piece) => sum + piece.byteLength, 0);
  return concatBytes([encodeHead(encodeStructure(proto), byteLength), ...initializers]);
}

function encodeInitializer(tensor: TensorProto): Uint8Array[] {
  const { rawData, ...rest } = tensor;
  if (rawData.byteLength === 0) return [initializerField(tensorFragment({ tensor }, '')).head];
  const handle = bytesHandle({ dataType: tensor.dataType, dims: tensor.dims.map(Number) }, rawData);
  return [initializerField(tensorFragment({ tensor: rest as TensorProto, handle }, '')).head, rawData];
}
