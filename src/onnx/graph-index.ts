import type { GraphProto, NodeProto } from 'onnx-buf';
import { printable } from '../printable.js';
import { intAttribute } from './attributes.js';
import { FLOAT32 } from './data-types.js';

/** Index of a graph: producers and consumers of values, and constants. Nodes are in topological order. */
export interface GraphIndex {
  readonly nodes: readonly NodeProto[];
  /** Index of the node that computes a value; graph inputs and initializers have none. */
  readonly producerOf: ReadonlyMap<string, number>;
  /** Nodes that read a value, ascending, subgraphs' captures included. */
  readonly consumersOf: ReadonlyMap<string, readonly number[]>;
  readonly initializers: ReadonlySet<string>;
  /** Graph inputs without the initializers that old models list among them. */
  readonly inputs: ReadonlySet<string>;
  readonly outputs: ReadonlySet<string>;
  /** Values computed only from initializers and constants. */
  readonly constants: ReadonlySet<string>;
  /** Outputs of If branches, and values computed only from them and constants: their dims may depend on the branch. */
  readonly branching: ReadonlySet<string>;
}

/** Indexes a graph; edits of the graph invalidate the index. */
export function indexGraph(graph: GraphProto): GraphIndex {
  const producerOf = new Map<string, number>();
  const consumersOf = new Map<string, number[]>();
  const initializers = new Set(graph.initializer.map(({ name }) => name));
  const constants = new Set(initializers);
  const branching = new Set<string>();
  graph.node.forEach((node, at) => {
    const inputs = inputsOf(node);
    for (const value of inputs) {
      const consumers = consumersOf.get(value);
      if (consumers === undefined) consumersOf.set(value, [at]);
      else if (consumers.at(-1) !== at) consumers.push(at);
    }
    const constant = inputs.every((value) => constants.has(value)) && !RANDOM_OPS.has(node.opType);
    const branches =
      node.opType === 'If' || (!constant && inputs.every((value) => constants.has(value) || branching.has(value)));
    for (const value of node.output) {
      if (value === '') continue;
      producerOf.set(value, at);
      if (constant) constants.add(value);
      if (branches) branching.add(value);
    }
  });
  return {
    nodes: graph.node,
    producerOf,
    consumersOf,
    initializers,
    inputs: new Set(graph.input.map(({ name }) => name).filter((name) => !initializers.has(name))),
    outputs: new Set(graph.output.map(({ name }) => name)),
    constants,
    branching,
  };
}

/** Node that computes a value. */
export const producerNode = ({ nodes, producerOf }: GraphIndex, value: string): NodeProto | undefined =>
  nodes[producerOf.get(value) ?? -1];

/** The only consumer of a value, if it has this operator. */
export function onlyConsumer({ nodes, consumersOf }: GraphIndex, value: string, opType: string): NodeProto | undefined {
  const [reader, ...others] = consumersOf.get(value) ?? [];
  const node = reader === undefined || others.length > 0 ? undefined : nodes[reader];
  return node?.opType === opType ? node : undefined;
}

/** Input of the Reshape that computes a value, or the value itself. */
export function throughReshape(index: GraphIndex, value: string): string {
  const node = producerNode(index, value);
  return node?.opType === 'Reshape' ? node.input[0]! : value;
}

/** Input of the Cast to float32 that computes a value, or the value itself. */
export function throughCast(index: GraphIndex, value: string): string {
  const node = producerNode(index, value);
  return node?.opType === 'Cast' && intAttribute(node, 'to', 0) === FLOAT32 ? node.input[0]! : value;
}

const RANDOM_OPS = new Set(['RandomNormal', 'RandomUniform', 'Multinomial', 'Bernoulli']);

/** Values a node reads, those that its subgraphs capture included; absent optional inputs left out. */
export function inputsOf(node: NodeProto): readonly string[] {
  const own = node.input.includes('') ? node.input.filter((value) => value !== '') : node.input;
  const graphs = subgraphsOf(node);
  return graphs.length === 0 ? own : [...own, ...graphs.flatMap(capturesOf)];
}

/** Graphs inside a node, such as the branches of an If. */
export function subgraphsOf({ attribute }: NodeProto): readonly GraphProto[] {
  // Shared empty list: graphs are traversed often, and hardly any node has a subgraph.
  if (!attribute.some(({ g, graphs }) => g !== undefined || graphs.length > 0)) return NO_GRAPHS;
  return attribute.flatMap(({ g, graphs }) => [...(g ? [g] : []), ...graphs]);
}

const NO_GRAPHS: readonly GraphProto[] = [];

/** Names of a graph's own values, which shadow outer ones. */
export function ownNames({ input, initializer, node }: GraphProto): Set<string> {
  return new Set([...input, ...initializer].map(({ name }) => name).concat(node.flatMap(({ output }) => output)));
}

function capturesOf(graph: GraphProto): string[] {
  const own = ownNames(graph);
  const read = [...graph.node.flatMap(inputsOf), ...graph.output.map(({ name }) => name)];
  return read.filter((value) => !own.has(value));
}

/** A node's name for messages and reports, escaped: its own, or that of its first output. */
export function nodeLabel(node: NodeProto): string {
  const named = node.name !== '' ? node.name : (node.output.find((value) => value !== '') ?? '?');
  return printable(`${qualifiedOp(node)} "${named}"`);
}

/** Operator with its domain where that is not ONNX's own: `com.microsoft.GroupQueryAttention`. */
export function qualifiedOp(node: NodeProto): string {
  return node.domain === '' || node.domain === 'ai.onnx' ? node.opType : `${node.domain}.${node.opType}`;
}
