import { clone, create } from '@bufbuild/protobuf';
import {
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
} from 'onnx-buf';
import { findAttribute } from './attributes.js';
import { makeNode } from './build.js';
import { isEqualTensor } from './equal-tensors.js';
import { inputsOf } from './graph-index.js';
import type { OnnxModel } from './onnx-model.js';

/** Name of the input of merged decoders that selects a branch. */
const CHOICE = /use_cache_branch$/;

/**
 * Splits a merged decoder: an If with a branch with past and one without, over the same weights. Returns the branch
 * with past as a model, with the other one as its `noPastBranch`; other models are returned unchanged.
 */
export function splitMerged(model: OnnxModel): OnnxModel {
  const graph = model.proto.graph;
  const choice = graph && findChoice(graph);
  const branches = choice && (['then_branch', 'else_branch'] as const).map((name) => findAttribute(choice, name)?.g);
  const [cached, fresh] = branches ?? [];
  if (!graph || !choice || !cached || !fresh) return model;
  // Weights inside a branch have no handle.
  if (cached.initializer.length + fresh.initializer.length > 0) return model;
  const noPastBranch = takeBranch(model, choice, fresh);
  return {
    ...takeBranch(model, choice, cached),
    noPastBranch: { model: noPastBranch, merged: { ...model, proto: frameOf(model, choice) } },
  };
}

function findChoice({ node, input }: GraphProto): NodeProto | undefined {
  const conditions = new Set(input.map(({ name }) => name).filter((name) => CHOICE.test(name)));
  return node.find(({ opType, input: [condition = ''] }) => opType === 'If' && conditions.has(condition));
}

/** The model with one branch in place of the If. */
function takeBranch(model: OnnxModel, choice: NodeProto, branch: GraphProto): OnnxModel {
  const graph = model.proto.graph!;
  const names = branch.output.map(({ name }, at) => ({ name, as: choice.output[at] ?? '' }));
  const renamed = names
    .filter(({ name, as }) => name !== as && as !== '')
    .map(({ name, as }) => makeNode({ op: 'Identity', inputs: [name], outputs: [as] }));
  const node = graph.node.flatMap((own) => (own === choice ? [...branch.node, ...renamed] : [own]));
  const chosen = create(GraphProtoSchema, {
    ...graph,
    node,
    input: graph.input.filter(({ name }) => name !== choice.input[0]),
    valueInfo: [...graph.valueInfo, ...branch.valueInfo],
  });
  const proto = clone(ModelProtoSchema, create(ModelProtoSchema, { ...model.proto, graph: chosen }));
  return { ...model, proto, weights: new Map(model.weights) };
}

/** The merged model without its weights and the contents of its branches. */
function frameOf({ proto }: OnnxModel, choice: NodeProto): ModelProto {
  const attribute = choice.attribute.map((branch) =>
    create(AttributeProtoSchema, {
      ...branch,
      ...(branch.g && { g: create(GraphProtoSchema, { name: branch.g.name }) }),
    }),
  );
  const bare = Object.assign(create(NodeProtoSchema), choice, { attribute });
  const graph = Object.assign(create(GraphProtoSchema), proto.graph, { node: [bare], initializer: [], valueInfo: [] });
  return clone(ModelProtoSchema, Object.assign(create(ModelProtoSchema), proto, { graph }));
}

/** Merges two decoders into the merged model that they were split from. Equal weights are shared. */
export async function mergeDecoders({ noPastBranch, ...cached }: OnnxModel, fresh: OnnxModel): Promise<OnnxModel> {
  if (noPastBranch === undefined) return cached;
  const { proto: frame } = noPastBranch.merged;
  const proto = clone(ModelProtoSchema, frame);
  const graph = proto.graph!;
  const [choice] = graph.node as [NodeProto];
  const [mine, other] = [cached.proto.graph!, fresh.proto.graph!];
  const renamed = await findClashes(cached, fresh);
  const inputs = new Map(mine.input.map((info) => [info.name, info]));
  graph.input = graph.input.map((info) => inputs.get(info.name) ?? info);
  graph.output = mine.output;
  // Nodes around the `If`, such as casts, are in both branches now.
  choice.output = graph.output.map(({ name }) => name);
  graph.initializer = [
    ...mine.initializer,
    ...other.initializer
      .filter(({ name }) => renamed.has(name) || !cached.weights.has(name))
      .map((tensor) => ({ ...tensor, name: renamed.get(tensor.name) ?? tensor.name })),
  ];
  const weights = new Map(cached.weights);
  for (const [name, handle] of fresh.weights) {
    if (renamed.has(name) || !weights.has(name)) weights.set(renamed.get(name) ?? name, handle);
  }
  choice.attribute = choice.attribute.map((attribute) => {
    const branch = attribute.name === 'then_branch' ? mine : other;
    if (attribute.g === undefined) return attribute;
    const node = branch === mine ? mine.node : other.node.map((own) => renameReads(own, renamed));
    const g = create(GraphProtoSchema, {
      name: attribute.g.name,
      node,
      output: branch.output,
      valueInfo: branch.valueInfo,
    });
    return create(AttributeProtoSchema, { ...attribute, g });
  });
  return { ...cached, proto, weights };
}

/** New names for weights of the second decoder whose names mean another weight or value in the first. */
async function findClashes(cached: OnnxModel, fresh: OnnxModel): Promise<ReadonlyMap<string, string>> {
  const computed = new Set(cached.proto.graph!.node.flatMap(({ output }) => output));
  const used = new Set([...computed, ...cached.weights.keys(), ...fresh.weights.keys()]);
  const clashes = new Map<string, string>();
  for (const [name, handle] of fresh.weights) {
    const known = cached.weights.get(name);
    if (known === undefined ? !computed.has(name) : await isEqualTensor(known, handle)) continue;
    let renamed = `${name}/without_past`;
    while (used.has(renamed)) renamed += '_2';
    used.add(renamed);
    clashes.set(name, renamed);
  }
  return clashes;
}

function renameReads(node: NodeProto, names: ReadonlyMap<string, string>): NodeProto {
  if (!inputsOf(node).some((value) => names.has(value))) return node;
  return Object.assign(node, { input: node.input.map((value) => names.get(value) ?? value) });
}
