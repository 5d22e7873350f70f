import { create } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
} from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { makeInitializer, makeNode, makeValueInfo } from './build.js';
import { nodeLabel, subgraphsOf } from './graph-index.js';
import { findEmbeddingInput, findTokenInput } from './model-inputs.js';
import type { OnnxModel } from './onnx-model.js';
import { bytesHandle } from './tensor-handle.js';

/** Declaration of an input or output of a graph; a symbolic dimension is its name, one without a name `''`. */
export interface DeclaredTensor {
  readonly name: string;
  /** ONNX `TensorProto.DataType` number. */
  readonly dataType: number;
  readonly dims: readonly (number | string)[];
}

export interface PrepareRequest {
  /** Inputs that the decoder declares. */
  readonly decoderInputs: readonly DeclaredTensor[];
  /** Put before every name inside. Default `EMBEDDING_PREFIX`. */
  readonly prefix?: string;
}

/** Begins the names inside an embedding model. */
export const EMBEDDING_PREFIX = 'embedding/';

/**
 * Adapts an embedding model to a decoder: it takes token ids, and its outputs have the decoder's names and types. Its
 * inputs for image and audio features become empty weights.
 *
 * @throws UnsupportedModelError when the two do not fit, or another input cannot be left empty.
 */
export function prepareEmbedding(
  embedding: OnnxModel,
  { decoderInputs, prefix = EMBEDDING_PREFIX }: PrepareRequest,
): OnnxModel {
  const { proto } = embedding;
  const graph = proto.graph ?? create(GraphProtoSchema);
  const nested = graph.node.find((node) => subgraphsOf(node).length > 0);
  if (nested !== undefined || proto.functions.length > 0) {
    const found = nested === undefined ? 'functions of its own' : nodeLabel(nested);
    throw refuse(`it has ${found}; export it as one graph without control flow and with functions inlined`);
  }
  const isWeight = new Set(graph.initializer.map(({ name }) => name));
  const inputs = graph.input.map(declared).filter(({ name }) => !isWeight.has(name));
  const tokens = findTokenInput(inputs);
  if (tokens === undefined) throw refuse(`it takes ${list(inputs)}, expected input_ids`);
  const links = linkOutputs(graph.output.map(declared), decoderInputs);
  // Inputs with the same name as the decoder's, such as a mask, are shared.
  const shared = inputs.filter((input) => input !== tokens && decoderInputs.some(({ name }) => name === input.name));
  const sharedNames = new Set([tokens, ...shared].map(({ name }) => name));
  const empty = inputs.filter(({ name }) => !sharedNames.has(name)).map(makeEmpty);
  const rename = (name: string) => (name === '' || sharedNames.has(name) ? name : prefix + name);
  const casts = links.map(({ output, input: { name, dataType } }) =>
    makeNode({
      op: 'Cast',
      name: `${prefix}cast ${name}`,
      inputs: [rename(output.name)],
      outputs: [name],
      attributes: { to: dataType },
    }),
  );
  const [batch = '', sequence = ''] = links[0]!.input.dims;
  const weights = [...embedding.weights, ...empty.map((tensor) => [tensor.name, emptyHandle(tensor)] as const)];
  return {
    ...embedding,
    weights: new Map(weights.map(([name, handle]) => [rename(name), handle])),
    proto: Object.assign(create(ModelProtoSchema), proto, {
      graph: create(GraphProtoSchema, {
        name: graph.name,
        node: [
          ...graph.node.map((node, at) => renameNode(node, { rename, name: `${prefix}${node.name || at}` })),
          ...casts,
        ],
        initializer: [...graph.initializer, ...empty].map((tensor) =>
          Object.assign(create(TensorProtoSchema), tensor, { name: rename(tensor.name) }),
        ),
        input: [{ ...tokens, dims: [batch, sequence] }, ...shared].map(declare),
        output: links.map(({ input }) => declare(input)),
      }),
    }),
  };
}

/** An output of the embedding model and the decoder's input, embeddings first. */
interface Link {
  readonly output: DeclaredTensor;
  readonly input: DeclaredTensor;
}

function linkOutputs(outputs: readonly DeclaredTensor[], decoderInputs: readonly DeclaredTensor[]): readonly Link[] {
  const state = findEmbeddingInput(decoderInputs);
  if (state === undefined) throw refuse(`the decoder takes ${list(decoderInputs)}, expected inputs_embeds`);
  const outputNamed = ({ name: wanted }: DeclaredTensor) => outputs.find(({ name }) => name === wanted);
  const first = outputNamed(state) ?? findEmbeddingInput(outputs) ?? outputs[0];
  if (first === undefined) throw refuse('it has no output');
  const [width, decoderWidth] = [first.dims.at(-1), state.dims.at(-1)];
  if (typeof width === 'number' && typeof decoderWidth === 'number' && width !== decoderWidth) {
    throw refuse(
      `its "${first.name}" is ${width} wide and the decoder's "${state.name}" ${decoderWidth}: they belong to different models`,
    );
  }
  const others = decoderInputs.flatMap((input) => {
    const output = input === state ? undefined : outputNamed(input);
    return output === undefined || output === first ? [] : [{ output, input }];
  });
  return [{ output: first, input: state }, ...others];
}

function makeEmpty({ name, dataType, dims }: DeclaredTensor): TensorProto {
  if (!dims.some((dim) => typeof dim === 'string')) {
    throw refuse(`its input "${name}" [${dims.join(', ')}] has no open dimension, so that it cannot be left empty`);
  }
  return makeInitializer(
    name,
    dataType,
    dims.map((dim) => (typeof dim === 'number' ? dim : 0)),
    new Uint8Array(),
  );
}

const emptyHandle = ({ dataType, dims }: TensorProto) =>
  bytesHandle({ dataType, dims: dims.map(Number) }, new Uint8Array());

interface Renaming {
  readonly rename: (value: string) => string;
  readonly name: string;
}

function renameNode(node: NodeProto, { rename, name }: Renaming): NodeProto {
  const renamed = { name, input: node.input.map(rename), output: node.output.map(rename) };
  return Object.assign(create(NodeProtoSchema), node, renamed);
}

/** Declaration of a graph's value, with the element type 0 for one that is not a tensor. */
export function declared({ name, type }: ValueInfoProto): DeclaredTensor {
  const tensor = type?.value.case === 'tensorType' ? type.value.value : undefined;
  const dims = (tensor?.shape?.dim ?? []).map(({ value }) =>
    value.case === 'dimValue' ? Number(value.value) : (value.value ?? ''),
  );
  return { name, dataType: tensor?.elemType ?? 0, dims };
}

const declare = ({ name, dataType, dims }: DeclaredTensor): ValueInfoProto => makeValueInfo(name, dataType, dims);

const list = (values: readonly DeclaredTensor[]): string => values.map(({ name }) => name).join(', ') || 'nothing';

const refuse = (reason: string): UnsupportedModelError =>
  new UnsupportedModelError(`the embedding model cannot run before the decoder: ${reason}`);
