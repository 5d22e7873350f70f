import type { GraphProto, NodeProto } from 'onnx-buf';
import { subgraphsOf } from '../onnx/graph-index.js';

/** A graph, or a branch inside one. */
export interface Scope {
  readonly index: number;
  readonly graph: GraphProto;
  readonly parent: Scope | undefined;
  readonly producers: ReadonlyMap<string, NodeProto>;
  /** Names defined in this graph, which hide those of outer graphs. */
  readonly own: ReadonlySet<string>;
}

/** A value, and the graph that it belongs to. */
export interface ScopedValue {
  readonly scope: Scope;
  readonly name: string;
}

/** A node that reads a value; without a node the value is an output of the graph. */
export interface Consumer {
  readonly scope: Scope;
  readonly node: NodeProto | undefined;
  readonly input: number;
}

/** Index of a graph and its branches: producers and consumers of values. */
export interface GraphScopes {
  readonly main: Scope;
  /** Resolves a name in a graph to its value, which may belong to an outer graph. */
  resolve(scope: Scope, name: string): ScopedValue;
  producerOf(value: ScopedValue): NodeProto | undefined;
  consumersOf(value: ScopedValue): readonly Consumer[];
  /** The graphs of a node's branches. */
  branchesOf(node: NodeProto): readonly Scope[];
}

/** Unique key of a value. */
export const keyOf = ({ scope, name }: ScopedValue): string => `${scope.index} ${name}`;

/** Indexes a graph and its branches. */
export function indexScopes(graph: GraphProto): GraphScopes {
  const scopes: Scope[] = [];
  const branches = new Map<NodeProto, Scope[]>();
  const add = (graph: GraphProto, parent: Scope | undefined): Scope => {
    const producers = new Map(graph.node.flatMap((node) => node.output.map((name) => [name, node] as const)));
    const declared = [...graph.input, ...graph.initializer].map(({ name }) => name);
    const scope: Scope = {
      index: scopes.length,
      graph,
      parent,
      producers,
      own: new Set([...declared, ...producers.keys()]),
    };
    scopes.push(scope);
    for (const node of graph.node) {
      const inner = subgraphsOf(node).map((branch) => add(branch, scope));
      if (inner.length > 0) branches.set(node, inner);
    }
    return scope;
  };
  const main = add(graph, undefined);
  const resolve = (scope: Scope, name: string): ScopedValue =>
    scope.own.has(name) || scope.parent === undefined ? { scope, name } : resolve(scope.parent, name);
  const readers = new Map<string, Consumer[]>();
  const read = (name: string, reader: Consumer): void => {
    if (name === '') return;
    const key = keyOf(resolve(reader.scope, name));
    readers.set(key, [...(readers.get(key) ?? []), reader]);
  };
  for (const scope of scopes) {
    for (const node of scope.graph.node)
      for (const [input, name] of node.input.entries()) read(name, { scope, node, input });
    for (const [input, { name }] of scope.graph.output.entries()) read(name, { scope, node: undefined, input });
  }
  return {
    main,
    resolve,
    producerOf: ({ scope, name }) => scope.producers.get(name),
    consumersOf: (value) => readers.get(keyOf(value)) ?? [],
    branchesOf: (node) => branches.get(node) ?? [],
  };
}
