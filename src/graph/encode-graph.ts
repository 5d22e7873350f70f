import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';

/** Opset of graphs that are written down here. */
export const OPSET = 17;

/** Bytes of a model of one small graph: opset 17, and version 1 of the other domains that its nodes name. */
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
