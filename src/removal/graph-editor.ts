import type { GraphProto, NodeProto } from 'onnx-buf';
import { makeNode, type NodeSpec } from '../onnx/build.js';
import { INT32, INT64 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import { inputsOf, ownNames, subgraphsOf } from '../onnx/graph-index.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { bytesHandle } from '../onnx/tensor-handle.js';

/** Edits of a model in place; nodes keep their topological order. */
export interface GraphEditor {
  readonly model: OnnxModel;
  /** Node that writes a value. */
  producerOf(value: string): NodeProto | undefined;
  /** Nodes that read a value, directly or in a subgraph. */
  consumersOf(value: string): readonly NodeProto[];
  /** A name that no value has yet, starting with `base`. */
  freshName(base: string): string;
  addWeight(base: string, handle: TensorHandle): string;
  /** A one-dimensional constant of int64 (default) or int32, by ONNX data type; equal ones are shared, across edits too. */
  addInts(values: readonly number[], dataType?: number): string;
  /** Replaces the weight `name` of the node that writes `result`; other readers keep it. */
  replaceWeightFor(result: string, name: string, handle: TensorHandle): void;
  /** The first of some nodes, in the graph's order. */
  firstOf(some: readonly NodeProto[]): NodeProto;
  insertBefore(node: NodeProto, spec: NodeSpec): void;
  insertAfter(node: NodeProto, spec: NodeSpec): void;
  /** Makes `readers` read `to` where they read `from`. */
  rewire(readers: readonly NodeProto[], from: string, to: string): void;
}

/** Opens a model for editing in place. */
export function editGraph(model: OnnxModel): GraphEditor {
  const nodes = model.proto.graph?.node ?? [];
  let names: Set<string> | undefined;
  const freshName = (base: string): string => {
    // Most edits need no new name, and a graph has thousands of names.
    names ??= new Set([
      ...(model.proto.graph?.input ?? []).map(({ name }) => name),
      ...model.weights.keys(),
      ...nodes.flatMap(namesWrittenBy),
    ]);
    let name = base;
    for (let count = 2; names.has(name); count += 1) name = `${base}_${count}`;
    names.add(name);
    return name;
  };
  const addWeight = (base: string, handle: TensorHandle): string => {
    const name = freshName(base);
    setWeight(model, name, handle);
    return name;
  };
  const insertAt = (at: number, spec: NodeSpec): void => {
    nodes.splice(at, 0, makeNode(spec));
  };
  const consumersOf = (value: string) => nodes.filter((node) => inputsOf(node).includes(value));
  const rewire = (readers: readonly NodeProto[], from: string, to: string): void => {
    for (const reader of readers) replaceRead(reader, from, to);
  };
  return {
    model,
    freshName,
    addWeight,
    producerOf: (value) => nodes.find(({ output }) => output.includes(value)),
    consumersOf,
    addInts(values, dataType = INT64) {
      // Named by its values, so that later edits find it.
      const name = `fang_prune/ints/${dataType === INT32 ? 'int32/' : ''}${values.join(',')}`;
      const known = model.weights.get(name);
      if (known?.dataType === dataType && known.dims.join() === `${values.length}`) return name;
      const numbers = dataType === INT32 ? Int32Array.from(values) : BigInt64Array.from(values, BigInt);
      const bytes = new Uint8Array(numbers.buffer);
      return addWeight(name, bytesHandle({ dataType, dims: [values.length] }, bytes));
    },
    firstOf: (some) => some.reduce((a, b) => (nodes.indexOf(b) < nodes.indexOf(a) ? b : a)),
    insertBefore: (node, spec) => insertAt(nodes.indexOf(node), spec),
    insertAfter: (node, spec) => insertAt(nodes.indexOf(node) + 1, spec),
    replaceWeightFor(result, name, handle) {
      const readers = consumersOf(name);
      if (readers.length === 1) setWeight(model, name, handle);
      else
        rewire(
          readers.filter(({ output }) => output.includes(result)),
          name,
          addWeight(`${name}/own`, handle),
        );
    },
    rewire,
  };
}

/** Includes subgraphs, whose names must not occur outside. */
const namesWrittenBy = (node: NodeProto): string[] => [
  ...node.output,
  ...subgraphsOf(node).flatMap((graph) => [...ownNames(graph), ...graph.node.flatMap(namesWrittenBy)]),
];

function replaceRead(node: NodeProto, from: string, to: string): void {
  node.input = node.input.map((value) => (value === from ? to : value));
  for (const graph of subgraphsOf(node)) replaceCaptured(graph, from, to);
}

function replaceCaptured(graph: GraphProto, from: string, to: string): void {
  if (ownNames(graph).has(from)) return;
  for (const node of graph.node) replaceRead(node, from, to);
  for (const output of graph.output) if (output.name === from) output.name = to;
}
