import type { GraphProto, NodeProto, ValueInfoProto } from 'onnx-buf';
import { NumericalError, UnsupportedModelError } from '../errors.js';
import { findAttribute, intAttribute, setIntAttribute } from '../onnx/attributes.js';
import { makeNode } from '../onnx/build.js';
import { FLOAT16, FLOAT32, findDataType } from '../onnx/data-types.js';
import { decodeFloats, encodeFloats } from '../onnx/float-encoding.js';
import { type GraphIndex, indexGraph, inputsOf, nodeLabel, subgraphsOf } from '../onnx/graph-index.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import {
  clampToHalf,
  convertGraphToSingle,
  isHalfPrecision,
  isSingleOrHalfPrecision,
  MAX_FLOAT16,
  retypeTensor,
  setType,
  typeOf,
} from '../onnx/retype-floats.js';
import { checkRange } from '../onnx/tensor-handle.js';
import type { ValueFacts } from '../onnx/value-facts.js';

/** Operators whose intermediate values exceed the range or precision of float16: squares, their means and roots, powers, angles. */
const IN_SINGLE: ReadonlySet<string> = new Set([
  ...['Pow', 'ReduceMean', 'ReduceSum', 'ReduceSumSquare', 'ReduceL2', 'Sqrt', 'Reciprocal'],
  ...['Exp', 'Log', 'Sin', 'Cos', 'Range', 'CumSum'],
]);

/** Lookups of rows in a table of weights. */
const LOOKUPS: ReadonlySet<string> = new Set(['Gather', 'GatherND', 'GatherBlockQuantized']);

/** Products with a weight, or with codes whose scales are float16. */
const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'MatMulNBits', 'MatMulBnb4']);

/** Operators on codes, whose results are missing in the facts of a float model. */
const OVER_CODES: ReadonlySet<string> = new Set(['MatMulNBits', 'MatMulBnb4', 'GatherBlockQuantized']);

/** Converts a model from float16 to float32, in place: weights, constants, inputs, outputs and casts. */
export function convertToSingle(model: OnnxModel): void {
  for (const [name, handle] of model.weights)
    if (isHalfPrecision(handle.dataType)) model.weights.set(name, retypedHandle(name, handle, FLOAT32));
  convertGraphToSingle(model.proto.graph!);
}

/**
 * Converts a float32 model to float16, in place: weights, scales of codes, activations and KV cache. Logits, squares, roots,
 * exponentials and angles remain float32, and values computed only from positions and masks. Linear layers are in float16
 * even if they read squares (squared ReLU).
 *
 * @param facts Data types of the graph's values.
 * @throws NumericalError when a weight beyond the range of float16 is read; UnsupportedModelError for branches that read
 * activations.
 */
export function convertToHalf(model: OnnxModel, facts: ValueFacts): void {
  const graph = model.proto.graph!;
  const types = assignTypes(graph, facts);
  for (const [name, handle] of model.weights)
    if (types.get(name) === FLOAT16) model.weights.set(name, retypedHandle(name, handle, FLOAT16));
  for (const initializer of graph.initializer)
    if (types.get(initializer.name) === FLOAT16) initializer.dataType = FLOAT16;
  for (const input of graph.input) if (types.get(input.name) === FLOAT16) setType(input, FLOAT16);
  const nodes: NodeProto[] = [];
  const known = new Set<string>();
  const as = (value: string, type: number): string => {
    if (types.get(value) === type) return value;
    const name = `${value}/as_${findDataType(type)!.name}`;
    if (!known.has(name))
      nodes.push(makeNode({ op: 'Cast', name, inputs: [value], outputs: [name], attributes: { to: type } }));
    known.add(name);
    return name;
  };
  for (const node of graph.node) {
    const type = types.get(node.output.find((value) => types.has(value)) ?? '') ?? readType(node, types);
    if (type !== undefined) {
      node.input = node.input.map((value) => (types.has(value) ? as(value, type) : value));
      if (node.opType === 'Cast' && intAttribute(node, 'to', 0) === FLOAT32) setIntAttribute(node, 'to', type);
    }
    const tensor = findAttribute(node, 'value')?.t;
    if (tensor?.dataType === FLOAT32) retypeTensor(tensor, node.opType === 'Constant' ? type! : FLOAT32);
    nodes.push(node);
  }
  for (const output of graph.output) {
    const now = types.get(output.name);
    if (now === undefined) continue;
    // Samplers expect float32 logits; the cache is fed to the graph again.
    const target = isCache(output, graph) ? FLOAT16 : FLOAT32;
    setType(output, target);
    if (now !== target) nodes.push(...renameAndCast(nodes, output.name, { from: now, to: target }));
  }
  graph.node.splice(0, graph.node.length, ...nodes);
  graph.valueInfo = [];
}

/** Restores the given types of inputs, in place: another model computes their values. */
export function restoreInputTypes(graph: GraphProto, types: ReadonlyMap<string, number>): void {
  for (const input of graph.input) {
    const [from, to] = [types.get(input.name), typeOf(input)];
    if (from === undefined || from === to) continue;
    setType(input, from);
    const name = `${input.name}/as_${findDataType(to)!.name}`;
    for (const node of graph.node) node.input = node.input.map((value) => (value === input.name ? name : value));
    graph.node.unshift(makeNode({ op: 'Cast', name, inputs: [input.name], outputs: [name], attributes: { to } }));
  }
}

/** Data types of a graph's inputs, by name. */
export const inputTypes = (inputs: readonly ValueInfoProto[]): ReadonlyMap<string, number> =>
  new Map(inputs.map((input) => [input.name, typeOf(input)]));

/** The type of every float value, constants included. */
function assignTypes(graph: GraphProto, facts: ValueFacts): Map<string, number> {
  const index = indexGraph(graph);
  const ofCodes = new Set(graph.node.filter(({ opType }) => OVER_CODES.has(opType)).flatMap(({ output }) => output));
  const isFloat = (value: string): boolean =>
    ofCodes.has(value) || isSingleOrHalfPrecision(facts.get(value)?.dataType ?? 0);
  const types = new Map<string, number>();
  for (const value of index.inputs) if (isFloat(value)) types.set(value, FLOAT16);
  const activations = new Set(types.keys());
  const typing = { index, types, activations, isFloat };
  for (const node of index.nodes) {
    if (node.output.every((value) => index.constants.has(value))) continue;
    const type = computedType(node, typing);
    const isActivation = type === FLOAT16 || node.input.some((value) => activations.has(value));
    for (const value of node.output.filter((output) => output !== '' && isFloat(output))) {
      types.set(value, type);
      if (isActivation) activations.add(value);
    }
  }
  // Constants get the type of their readers; those with readers of both types remain float32.
  for (const node of index.nodes.toReversed()) {
    for (const value of node.output)
      if (index.constants.has(value) && isFloat(value)) types.set(value, typeForReaders(value));
  }
  for (const value of index.initializers) if (isFloat(value)) types.set(value, typeForReaders(value));
  return types;

  function typeForReaders(value: string): number {
    const readers = (index.consumersOf.get(value) ?? []).map((at) => index.nodes[at]!);
    const wantsHalf = (node: NodeProto): boolean => {
      const result = node.output.find((output) => types.has(output));
      return result === undefined ? computedType(node, typing) === FLOAT16 : types.get(result) === FLOAT16;
    };
    const isSingle = readers.length === 0 || readers.some((node) => subgraphsOf(node).length > 0 || !wantsHalf(node));
    return isSingle || index.outputs.has(value) ? FLOAT32 : FLOAT16;
  }
}

interface Typing {
  readonly index: GraphIndex;
  readonly types: ReadonlyMap<string, number>;
  /** Values computed from inputs in float16, also those in float32. */
  readonly activations: ReadonlySet<string>;
  isFloat(value: string): boolean;
}

/** Type that a node with activations, positions or masks computes in. @throws UnsupportedModelError */
function computedType(node: NodeProto, { index, types, activations, isFloat }: Typing): number {
  const read = inputsOf(node).filter((value) => isFloat(value) && !index.constants.has(value));
  const readsHalf = read.some((value) => types.get(value) === FLOAT16);
  if (subgraphsOf(node).length > 0) {
    if (!readsHalf) return FLOAT32;
    throw new UnsupportedModelError(
      `${nodeLabel(node)} reads activations in its branches, which cannot be converted to half precision yet; write a dtype of single precision`,
    );
  }
  if (IN_SINGLE.has(node.opType)) return FLOAT32;
  const isLinear = PRODUCTS.has(node.opType) && node.input.some((value) => index.constants.has(value));
  if (isLinear && read.some((value) => activations.has(value))) return FLOAT16;
  if (read.length > 0) return readsHalf ? FLOAT16 : FLOAT32;
  return LOOKUPS.has(node.opType) ? FLOAT16 : FLOAT32;
}

/** Input type of a node without float output: a comparison, a cast to integers. */
function readType(node: NodeProto, types: ReadonlyMap<string, number>): number | undefined {
  const read = node.input.map((value) => types.get(value)).filter((type) => type !== undefined);
  if (subgraphsOf(node).length > 0 || node.opType === 'Shape' || node.opType === 'Size') return undefined;
  return read.includes(FLOAT16) ? FLOAT16 : read[0];
}

/** Whether an output is probably a KV cache: not the logits, and of the same rank as a float input. */
function isCache(output: ValueInfoProto, { input }: GraphProto): boolean {
  return output.name !== 'logits' && input.some((info) => typeOf(info) === FLOAT16 && rankOf(info) === rankOf(output));
}

/** Renames the value of an output, and casts it to the output. */
function renameAndCast(
  nodes: readonly NodeProto[],
  name: string,
  { from, to }: { readonly from: number; readonly to: number },
): NodeProto[] {
  const inner = `${name}/in_${findDataType(from)!.name}`;
  for (const node of nodes) {
    node.output = node.output.map((value) => (value === name ? inner : value));
    node.input = node.input.map((value) => (value === name ? inner : value));
  }
  return [makeNode({ op: 'Cast', name: inner, inputs: [inner], outputs: [name], attributes: { to } })];
}

const rankOf = ({ type }: ValueInfoProto): number | undefined =>
  type?.value.case === 'tensorType' ? type.value.value.shape?.dim.length : undefined;

/** A weight in another float type, converted whenever it is read. */
function retypedHandle(name: string, handle: TensorHandle, dataType: number): TensorHandle {
  const [from, to] = [findDataType(handle.dataType)!.bits / 8, findDataType(dataType)!.bits / 8];
  const byteLength = (handle.byteLength / from) * to;
  return {
    dataType,
    dims: handle.dims,
    byteLength,
    async read(range = { offset: 0, length: byteLength }) {
      checkRange(range, byteLength);
      const source = { offset: (range.offset / to) * from, length: (range.length / to) * from };
      const values = decodeFloats(handle.dataType, await handle.read(source));
      if (handle.dims.length <= 1) return encodeFloats(dataType, values.map(clampToHalf));
      try {
        return encodeFloats(dataType, values);
      } catch (cause) {
        if (!(cause instanceof NumericalError)) throw cause;
        throw new NumericalError(
          `weight "${name}" has numbers beyond ${MAX_FLOAT16}, the largest in half precision; write a dtype of single precision, such as fp32 or q4`,
          { cause },
        );
      }
    },
  };
}
