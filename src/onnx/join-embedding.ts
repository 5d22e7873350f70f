import { clone, create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, ValueInfoProtoSchema } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { nodeLabel } from './graph-index.js';
import type { OnnxModel } from './onnx-model.js';
import { opsetOf } from './opset-of.js';
import { declared, EMBEDDING_PREFIX, prepareEmbedding } from './prepare-embedding.js';

/**
 * Standard operators of embedding models, with the opset since which their semantics are unchanged: two files may
 * import different opsets.
 */
const SAME_SINCE: Readonly<Record<number, string>> = {
  1: 'Identity Not Size Transpose',
  4: 'Concat',
  6: 'Abs Exp Neg Sigmoid Sqrt Tanh Tile',
  7: 'Add And Div Mul Or Sub',
  8: 'Expand',
  9: 'ConstantOfShape Greater Less MatMul NonZero Where',
  10: 'Mod',
  11: 'CumSum Equal Flatten Gather Gemm Range Slice',
  12: 'Clip GatherND GreaterOrEqual LessOrEqual Max Min',
  13: 'Cast Constant DequantizeLinear Pow ReduceSum Softmax Squeeze Unsqueeze',
  14: 'Reshape Trilu',
  15: 'CastLike Shape',
  16: 'ScatterElements ScatterND',
  17: 'LayerNormalization',
  18: 'ReduceMax ReduceMean ReduceMin Split',
};

/**
 * Joins an embedding model and a decoder that reads `inputs_embeds` into a decoder that reads token ids. The prefix is
 * neither counted nor pruned, and `withoutEmbeddingPrefix` removes it.
 *
 * @throws UnsupportedModelError when the two do not fit.
 * @example
 * const decoder = joinEmbedding(await loadModel(decoderFile, folder), await loadModel(embeddingFile, folder));
 */
export function joinEmbedding(decoder: OnnxModel, embedding: OnnxModel): OnnxModel {
  const { proto } = decoder;
  const graph = proto.graph!;
  const prefix = freePrefix(decoder);
  const prepared = prepareEmbedding(embedding, { decoderInputs: graph.input.map(declared), prefix });
  const prefixGraph = prepared.proto.graph!;
  checkOpsets(decoder, prepared);
  const computed = new Set(prefixGraph.output.map(({ name }) => name));
  const first = graph.input.findIndex(({ name }) => computed.has(name));
  const remaining = graph.input.filter(({ name }) => !computed.has(name));
  const missing = prepared.proto.opsetImport.filter(
    ({ domain }) => domain !== '' && !proto.opsetImport.some((known) => known.domain === domain),
  );
  const newer = proto.irVersion < prepared.proto.irVersion ? prepared.proto : proto;
  return {
    ...decoder,
    weights: new Map([...prepared.weights, ...decoder.weights]),
    embeddingPrefix: {
      prefix,
      ...(embedding.storage && { storage: embedding.storage }),
      decoder: { irVersion: proto.irVersion, opsetImport: proto.opsetImport, input: graph.input },
    },
    proto: Object.assign(create(ModelProtoSchema), proto, {
      irVersion: newer.irVersion,
      opsetImport: [...proto.opsetImport, ...missing],
      graph: Object.assign(create(GraphProtoSchema), graph, {
        node: [...prefixGraph.node, ...graph.node],
        initializer: [...prefixGraph.initializer, ...graph.initializer],
        input: remaining.toSpliced(first, 0, prefixGraph.input[0]!),
      }),
    }),
  };
}

/** The decoder without its embedding prefix, with all edits of the decoder. */
export function withoutEmbeddingPrefix({ embeddingPrefix, ...model }: OnnxModel): OnnxModel {
  if (embeddingPrefix === undefined) return model;
  const { prefix, decoder } = embeddingPrefix;
  const graph = model.proto.graph!;
  const isOwn = ({ name }: { readonly name: string }) => !name.startsWith(prefix);
  const edited = new Map(graph.input.map((info) => [info.name, info]));
  return {
    ...model,
    weights: new Map([...model.weights].filter(([name]) => isOwn({ name }))),
    proto: Object.assign(create(ModelProtoSchema), model.proto, {
      irVersion: decoder.irVersion,
      opsetImport: decoder.opsetImport,
      graph: Object.assign(create(GraphProtoSchema), graph, {
        node: graph.node.filter(isOwn),
        initializer: graph.initializer.filter(isOwn),
        // Inputs that the prefix computed are restored as copies, since each written form may change their types.
        input: decoder.input.map((info) => edited.get(info.name) ?? clone(ValueInfoProtoSchema, info)),
      }),
    }),
  };
}

/** A prefix that no name of the decoder begins with. */
function freePrefix({ proto }: OnnxModel): string {
  const { node, input, initializer } = proto.graph!;
  const names = [
    ...node.flatMap(({ name, output }) => [name, ...output]),
    ...[...input, ...initializer].map(({ name }) => name),
  ];
  let prefix = EMBEDDING_PREFIX;
  while (names.some((name) => name.startsWith(prefix))) prefix = `_${prefix}`;
  return prefix;
}

/** @throws UnsupportedModelError naming an operator whose semantics differ between the opsets. */
function checkOpsets(decoder: OnnxModel, prepared: OnnxModel): void {
  const [decoderOpset, embeddingOpset] = [opsetOf(decoder.proto), opsetOf(prepared.proto)];
  const least = Math.min(decoderOpset, embeddingOpset);
  const differing = prepared.proto.opsetImport.find(({ domain, version }) => {
    const known = decoder.proto.opsetImport.find((other) => other.domain === domain);
    return domain !== '' && domain !== 'ai.onnx' && known !== undefined && known.version !== version;
  });
  const changed = prepared.proto.graph!.node.find((node) => {
    if (decoderOpset === embeddingOpset || (node.domain !== '' && node.domain !== 'ai.onnx')) return false;
    return !Object.entries(SAME_SINCE).some(
      ([since, ops]) => Number(since) <= least && ops.split(' ').includes(node.opType),
    );
  });
  if (differing === undefined && changed === undefined) return;
  const what = changed === undefined ? `the operators of "${differing!.domain}"` : nodeLabel(changed);
  throw new UnsupportedModelError(
    `the embedding model cannot run before the decoder: ${what} may mean one thing in opset ${embeddingOpset}, the embedding model's, ` +
      `and another in opset ${decoderOpset}, the decoder's; export both for the same opset`,
  );
}
