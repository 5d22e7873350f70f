import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';

/** Opset of graphs built by this library. */
export const OPSET = 17;

/** Serialized model of a small graph: opset 17, and version 1 of other domains of its nodes. */
export function encodeGraph(graph: MessageInitShape<typeof GraphProtoSchema>): Uint8Array {
  const domains = new Set(['', ...(graph.node ?? []).map(({ domain = '' }) => domain)]);
  const opsetImport = [...domains].map((domain) =>
    create(OperatorSetIdProtoSchema, { domain, version: BigInt(domain === '' ? OPSET : 1) }),
  );
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, { irVersion: 8n, opsetImport, graph: create(GraphProtoSchema, graph) }),
  );
}
