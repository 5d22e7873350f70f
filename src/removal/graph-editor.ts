import type { NodeProto } from 'onnx-buf';
import { makeNode, type NodeSpec } from '../graph/build.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { bytesHandle } from '../onnx/tensor-handle.js';

/** A model under the knife: a handful of fixed edits, no general rewriting. Nodes keep their topological order. */
export interface GraphEditor {
  readonly model: OnnxModel;
  /** Node that makes a value, as the graph stands now. */
  producerOf(value: string): NodeProto | undefined;
  consumersOf(value: string): readonly NodeProto[];
  /** A name that no value has yet, starting with `base`. */
  freshName(base: string): string;
  addWeight(base: string, handle: TensorHandle): string;
  /** A one-dimensional constant of int64, or of int32 where ONNX's number 6 asks for it; equal ones are shared. */
  addInts(values: readonly number[], dataType?: number): string;
  /** Gives the node that writes `result` another weight in place of `name`; other readers keep theirs. */
  replaceWeightFor(result: string, name: string, handle: TensorHandle): void;
  insertBefore(node: NodeProto, spec: NodeSpec): void;
  insertAfter(node: NodeProto, spec: NodeSpec): void;
  /** Makes `readers` read `to` where they read `from`. */
  rewire(readers: readonly NodeProto[], from: string, to: string): void;
}

/** ONNX `TensorProto.DataType` numbers. */
const INT32 = 6;
const INT64 = 7;

/** Opens a model for editing in place. */
export function editGraph(model: OnnxModel): GraphEditor {
  const nodes = model.proto.graph?.node ?? [];
  const sharedInts = new Map<string, string>();
  let names: Set<string> | undefined;
  const freshName = (base: string): string => {
    // Most edits name nothing, and a graph has thousands of names.
    names ??= new Set([
      ...(model.proto.graph?.input ?? []).map(({ name }) => name),
      ...model.weights.keys(),
      ...nodes.flatMap(({ output }) => output),
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
  const consumersOf = (value: string) => nodes.filter(({ input }) => input.includes(value));
  const rewire = (readers: readonly NodeProto[], from: string, to: string): void => {
    for (const reader of readers) reader.input = reader.input.map((value) => (value === from ? to : value));
  };
  return {
    model,
    freshName,
    addWeight,
    producerOf: (value) => nodes.find(({ output }) => output.includes(value)),
    consumersOf,
    addInts(values, dataType = INT64) {
      const key = `${dataType === INT32 ? 'int32/' : ''}${values.join(',')}`;
      const known = sharedInts.get(key);
      if (known !== undefined) return known;
      const numbers = dataType === INT32 ? Int32Array.from(values) : BigInt64Array.from(values, BigInt);
      const bytes = new Uint8Array(numbers.buffer);
      const name = addWeight(`fang_prune/ints/${key}`, bytesHandle({ dataType, dims: [values.length] }, bytes));
      sharedInts.set(key, name);
      return name;
    },
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
