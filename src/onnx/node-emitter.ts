import type { NodeProto, TensorProto } from 'onnx-buf';
import { type AttributeValue, makeInitializer, makeNode } from './build.js';
import { FLOAT32, FLOAT64, INT64 } from './data-types.js';
import type { Value } from './value.js';
import type { ValueFact } from './value-facts.js';

/** Outputs of a new node. */
export interface NodeResult {
  readonly dims: readonly number[];
  readonly dataType: number;
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
}

/** Collects nodes and constants of a graph under construction. Node inputs may be `undefined` (absent optional input). */
export interface NodeEmitter {
  /** Appends a node with one output. */
  node(op: string, inputs: readonly (Value | undefined)[], result: NodeResult): Value;
  /** A constant; equal constants are shared. `values` are in row-major order. */
  constant(dataType: number, dims: readonly number[], values: readonly number[]): Value;
  /** Runs `action` and returns also the nodes that it appended. */
  record<T>(action: () => T): { readonly result: T; readonly nodes: readonly NodeProto[] };
  /** Facts of a value created by this emitter. */
  factOf(name: string): ValueFact | undefined;
  /** Nodes in topological order and constants that `outputs` depend on; everything else is dropped. */
  finish(outputs: readonly string[]): { readonly nodes: NodeProto[]; readonly initializers: TensorProto[] };
}

/** Makes an emitter whose value and node names all start with `prefix`. */
export function createNodeEmitter(prefix: string): NodeEmitter {
  const nodes: NodeProto[] = [];
  const constants = new Map<string, { readonly value: Value; readonly tensor: TensorProto }>();
  const facts = new Map<string, ValueFact>();

  return {
    node(op, inputs, { dims, dataType, domain = '', attributes = {} }) {
      const name = `${prefix}${nodes.length}/${op}`;
      nodes.push(
        makeNode({ op, domain, name, inputs: inputs.map((input) => input?.name ?? ''), outputs: [name], attributes }),
      );
      facts.set(name, { dims, dataType });
      return { name, dims, dataType };
    },
    constant(dataType, dims, values) {
      const key = `${dataType}[${dims}]${values}`;
      const known = constants.get(key);
      if (known !== undefined) return known.value;
      const value = { name: `${prefix}constant/${constants.size}`, dims, dataType };
      constants.set(key, { value, tensor: makeInitializer(value.name, dataType, dims, encode(dataType, values)) });
      facts.set(value.name, { dims, dataType, ...(dataType === INT64 && { ints: values }) });
      return value;
    },
    record(action) {
      const start = nodes.length;
      const result = action();
      return { result, nodes: nodes.slice(start) };
    },
    factOf: (name) => facts.get(name),
    finish(outputs) {
      const needed = new Set(outputs);
      const used: NodeProto[] = [];
      for (const node of nodes.toReversed()) {
        if (!node.output.some((name) => needed.has(name))) continue;
        used.push(node);
        for (const name of node.input) needed.add(name);
      }
      return {
        nodes: used.reverse(),
        initializers: [...constants.values()].map(({ tensor }) => tensor).filter(({ name }) => needed.has(name)),
      };
    },
  };
}

/** Raw little-endian bytes of a small constant. Only the types that rules need. */
function encode(dataType: number, values: readonly number[]): Uint8Array<ArrayBuffer> {
  switch (dataType) {
    case FLOAT32:
      return new Uint8Array(Float32Array.from(values).buffer);
    case FLOAT64:
      return new Uint8Array(Float64Array.from(values).buffer);
    case INT64:
      return new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    default:
      throw new RangeError(`No constants of data type ${dataType}.`);
  }
}
