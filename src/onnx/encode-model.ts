import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { GraphProtoSchema, type ModelProto, ModelProtoSchema, type TensorProto } from 'onnx-buf';
import { concatenate } from '../concatenate.js';
import type { OnnxModel } from './onnx-model.js';
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

/** Bytes of a file before the initializers: protobuf allows the fields of a message in any order. */
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
  return assemble(proto, proto.graph!.initializer.flatMap(encodeInitializer));
}

/** A serialized model, and its payloads as external data. */
export interface DetachedModel {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Payloads by location. */
  readonly weights: ReadonlyMap<string, Uint8Array>;
}

/** Smaller payloads (shapes and indices) stay inside, since engines read them while loading. */
const MIN_DETACHED = 1024;

/** Encodes a model whose weights are in memory without copying the large ones. */
export function encodeDetached(proto: ModelProto): DetachedModel {
  const weights = new Map<string, Uint8Array>();
  const initializers = proto.graph!.initializer.flatMap((tensor) => {
    if (tensor.rawData.byteLength < MIN_DETACHED) return encodeInitializer(tensor);
    const location = `weights/${weights.size}`;
    weights.set(location, tensor.rawData);
    const { rest, handle } = detachPayload(tensor);
    return [initializerField(tensorFragment({ tensor: rest, handle, outside: { location, offset: 0 } })).head];
  });
  return { bytes: assemble(proto, initializers), weights };
}

/** The folder that contains all large weights; undefined if one is elsewhere or not in a file. */
export function commonFolder({ weights }: OnnxModel): string | undefined {
  const large = [...weights.values()].filter(({ byteLength }) => byteLength >= MIN_DETACHED);
  const folders = new Set(large.map(({ place }) => place?.folder));
  return folders.size === 1 ? [...folders][0] : undefined;
}

/** Encodes a model whose large weights are in one folder: they become external data, without being read. */
export async function encodePlaced({ proto, weights }: OnnxModel): Promise<Uint8Array<ArrayBuffer>> {
  const initializers = proto.graph!.initializer.map(async (tensor) => {
    const handle = weights.get(tensor.name);
    if (handle === undefined) return encodeInitializer(tensor);
    if (handle.byteLength < MIN_DETACHED) return encodeInitializer({ ...tensor, rawData: await handle.read() });
    const { name: location, offset } = handle.place!;
    return [initializerField(tensorFragment({ tensor, handle, outside: { location, offset } })).head];
  });
  return assemble(proto, (await Promise.all(initializers)).flat());
}

/** A file of a model and its encoded initializers. */
function assemble(proto: ModelProto, initializers: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const byteLength = initializers.reduce((sum, piece) => sum + piece.byteLength, 0);
  return concatenate(Uint8Array, [encodeHead(encodeStructure(proto), byteLength), ...initializers]);
}

function encodeInitializer(tensor: TensorProto): Uint8Array[] {
  if (tensor.rawData.byteLength === 0) return [initializerField(tensorFragment({ tensor })).head];
  const { rest, handle } = detachPayload(tensor);
  return [initializerField(tensorFragment({ tensor: rest, handle })).head, tensor.rawData];
}

function detachPayload({ rawData, ...rest }: TensorProto) {
  const handle = bytesHandle({ dataType: rest.dataType, dims: rest.dims.map(Number) }, rawData);
  return { rest: rest as TensorProto, handle };
}
