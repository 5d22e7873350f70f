import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
} from 'onnx-buf';
import { makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { buildDecoder } from './small-decoder.js';

/** Replaces the Concat that appends to a past by an Identity. */
const withoutPast = (node: NodeProto): NodeProto =>
  node.opType === 'Concat' && node.input[0]!.startsWith('past')
    ? makeNode({ op: 'Identity', inputs: [node.input[1]!], outputs: node.output })
    : node;

/** One If over two decoders, as optimum merges them. */
export function mergedDecoder(): Uint8Array {
  const proto = fromBinary(ModelProtoSchema, buildDecoder());
  const graph = proto.graph!;
  const branch = (name: string, node: readonly NodeProto[]) =>
    create(AttributeProtoSchema, {
      name,
      type: AttributeProto_AttributeType.GRAPH,
      g: create(GraphProtoSchema, { name, node: [...node], output: graph.output }),
    });
  const outputs = graph.output.map(({ name }) => name);
  const choice = makeNode({ op: 'If', name: 'choice', inputs: ['use_cache_branch'], outputs });
  choice.attribute = [branch('else_branch', graph.node.map(withoutPast)), branch('then_branch', graph.node)];
  graph.node = [choice];
  graph.input = [...graph.input, makeValueInfo('use_cache_branch', 9, [1])];
  return toBinary(ModelProtoSchema, proto);
}
