import type { AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import { findPayload, isExternal, type PayloadSources } from './tensor-payload.js';
import { dropPayload } from './typed-elements.js';

/** Most bytes of external tensors in subgraphs and functions; they must fit the protobuf (2 GiB) when it is saved. */
const MAX_INLINE_BYTES = 2 ** 30;

/**
 * Reads the external tensors that are not initializers of the main graph (in subgraphs, functions, attributes, sparse
 * tensors, training information) into the protobuf. They are few and small, and cannot be pruned.
 * @returns the files that they came from.
 * @throws ModelFormatError when one cannot be read, or all together are too large.
 */
export async function inlineTensors(proto: ModelProto, sources: PayloadSources): Promise<readonly string[]> {
  const files = new Set<string>();
  let bytesLeft = MAX_INLINE_BYTES;
  for (const tensor of tensorsOfModel(proto)) {
    if (!isExternal(tensor)) continue;
    const { handle, externalFile } = await findPayload({ tensor }, sources);
    bytesLeft -= handle.byteLength;
    if (bytesLeft < 0) {
      throw new ModelFormatError(
        `${sources.model.name}: external tensors inside subgraphs and functions exceed ${MAX_INLINE_BYTES} bytes, up to "${tensor.name}".`,
      );
    }
    dropPayload(tensor);
    tensor.rawData = await handle.read();
    if (externalFile !== undefined) files.add(externalFile);
  }
  return [...files];
}

function* tensorsOfModel(proto: ModelProto): Generator<TensorProto> {
  if (proto.graph) yield* tensorsOfGraph(proto.graph);
  for (const { initialization, algorithm } of proto.trainingInfo) {
    if (initialization) yield* tensorsOfGraph(initialization);
    if (algorithm) yield* tensorsOfGraph(algorithm);
  }
  for (const { node, attributeProto } of proto.functions) {
    yield* tensorsOfNodes(node);
    for (const attribute of attributeProto) yield* tensorsOfAttribute(attribute);
  }
}

function* tensorsOfGraph(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer;
  for (const sparse of graph.sparseInitializer) yield* tensorsOfSparse(sparse);
  yield* tensorsOfNodes(graph.node);
}

function* tensorsOfNodes(nodes: readonly NodeProto[]): Generator<TensorProto> {
  for (const { attribute } of nodes) for (const one of attribute) yield* tensorsOfAttribute(one);
}

function* tensorsOfAttribute(attribute: AttributeProto): Generator<TensorProto> {
  if (attribute.t) yield attribute.t;
  yield* attribute.tensors;
  if (attribute.sparseTensor) yield* tensorsOfSparse(attribute.sparseTensor);
  for (const sparse of attribute.sparseTensors) yield* tensorsOfSparse(sparse);
  if (attribute.g) yield* tensorsOfGraph(attribute.g);
  for (const graph of attribute.graphs) yield* tensorsOfGraph(graph);
}

function* tensorsOfSparse({ values, indices }: SparseTensorProto): Generator<TensorProto> {
  if (values) yield values;
  if (indices) yield indices;
}
