import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { findAttribute, intAttribute } from '../onnx/attributes.js';
import { INT32, INT64 } from '../onnx/data-types.js';
import { nodeLabel } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type GraphScopes, indexScopes, type Scope, type ScopedValue } from './graph-scopes.js';

/** A weight with one row per token. */
export interface TokenTable {
  /** Name of the initializer. */
  readonly name: string;
  /** Axis of the rows. */
  readonly axis: number;
  /** Along axis 0, the initializer may also have other dims, with the rows one after the other. */
  readonly rows: number;
}

/** A constant that token ids are compared with or replaced by. */
export interface TokenConstant {
  readonly node: NodeProto;
  readonly input: number;
  readonly dataType: number;
  readonly dims: readonly number[];
  readonly values: readonly number[];
}

/** A constant of a node with the number of rows at index `place`. */
export type RowLiteral = TokenConstant & { readonly place: number };

/** Parts of a graph that depend on the vocabulary. Nodes belong to the traced graph. */
export interface VocabularyTrace {
  readonly tables: ReadonlyMap<string, TokenTable>;
  readonly constants: TokenConstant[];
  readonly literals: RowLiteral[];
  /** Nodes with the number of rows in an attribute. */
  readonly counted: { readonly node: NodeProto; readonly attribute: string; readonly rows: number }[];
  /** Values with an axis of the vocabulary: the axis, -1 for the last one, and its length. */
  readonly sized: { readonly scope: Scope; readonly name: string; readonly axis: number; readonly rows: number }[];
  /** Rows of the LM head; undefined in a graph without one. */
  readonly headRows: number | undefined;
  /** Rows of the largest table that ids are looked up in; undefined if there is none. */
  readonly lookupRows: number | undefined;
}

/** An unfinished trace. */
export interface Tracing {
  readonly model: OnnxModel;
  readonly scopes: GraphScopes;
  readonly tables: Map<string, TokenTable>;
  readonly constants: TokenConstant[];
  readonly literals: RowLiteral[];
  readonly counted: VocabularyTrace['counted'];
  readonly sized: VocabularyTrace['sized'];
  /** Inputs of nodes through which a table, ids or logits were followed. */
  readonly followed: Map<NodeProto, Set<number>>;
}

export const startTracing = (model: OnnxModel): Tracing => ({
  model,
  scopes: indexScopes(model.proto.graph!),
  tables: new Map(),
  constants: [],
  literals: [],
  counted: [],
  sized: [],
  followed: new Map(),
});

/** Records that a node's input is followed. @returns the value of the input */
export function follow({ scopes, followed }: Tracing, scope: Scope, node: NodeProto, input: number): ScopedValue {
  followed.set(node, (followed.get(node) ?? new Set()).add(input));
  return scopes.resolve(scope, node.input[input] ?? '');
}

/** An error about a node that cannot be followed. @param reason predicate of the message */
export const refuseNode = (node: NodeProto, reason: string): UnsupportedModelError =>
  new UnsupportedModelError(`${nodeLabel(node)} ${reason}, so that the vocabulary cannot be trimmed in this export`);

/** Integers that a node reads from a constant. */
export interface ConstantIntegers {
  readonly dataType: number;
  readonly dims: readonly number[];
  readonly values: readonly number[];
}

/** More integers than a shape, an axis list or a threshold has. */
const MAX_INTEGERS = 64;

/** Integers of an initializer or Constant node, also after casts; undefined for other values. */
export async function readConstant(tracing: Tracing, value: ScopedValue): Promise<ConstantIntegers | undefined> {
  const { model, scopes } = tracing;
  const node = scopes.producerOf(value);
  if (node?.opType === 'Cast' || node?.opType === 'Identity') {
    const source = await readConstant(tracing, scopes.resolve(value.scope, node.input[0] ?? ''));
    return source && { ...source, dataType: intAttribute(node, 'to', source.dataType) };
  }
  if (node?.opType === 'Constant') {
    const single = findAttribute(node, 'value_int');
    if (single !== undefined) return { dataType: INT64, dims: [], values: [Number(single.i)] };
    const list = findAttribute(node, 'value_ints');
    if (list !== undefined) return { dataType: INT64, dims: [list.ints.length], values: list.ints.map(Number) };
    const tensor = findAttribute(node, 'value')?.t;
    if (tensor === undefined) return undefined;
    const dims = tensor.dims.map(Number);
    const typed = tensor.dataType === INT64 ? tensor.int64Data.map(Number) : [...tensor.int32Data];
    const values = tensor.rawData.length > 0 ? integersOf(tensor.dataType, tensor.rawData) : typed;
    return values && { dataType: tensor.dataType, dims, values };
  }
  const handle = value.scope === scopes.main && node === undefined ? model.weights.get(value.name) : undefined;
  if (handle === undefined || handle.byteLength > 8 * MAX_INTEGERS) return undefined;
  const values = integersOf(handle.dataType, await handle.read());
  return values && { dataType: handle.dataType, dims: handle.dims, values };
}

function integersOf(dataType: number, bytes: Uint8Array): number[] | undefined {
  const { buffer } = bytes.slice();
  if (dataType === INT64) return Array.from(new BigInt64Array(buffer), Number);
  return dataType === INT32 ? Array.from(new Int32Array(buffer)) : undefined;
}

/** Dims of a value that is computed from one initializer; undefined for other values. */
export async function constantDims(tracing: Tracing, value: ScopedValue): Promise<readonly number[] | undefined> {
  const { model, scopes } = tracing;
  const node = scopes.producerOf(value);
  if (node === undefined) return value.scope === scopes.main ? model.weights.get(value.name)?.dims : undefined;
  const inputDims = () => constantDims(tracing, scopes.resolve(value.scope, node.input[0] ?? ''));
  if (node.opType === 'Constant') {
    const tensor = findAttribute(node, 'value')?.t;
    return tensor ? tensor.dims.map(Number) : ((await readConstant(tracing, value))?.dims ?? []);
  }
  if (node.opType === 'Cast' || node.opType === 'Identity' || node.opType === 'DequantizeLinear') return inputDims();
  if (node.opType === 'Transpose') {
    const dims = await inputDims();
    const perm = findAttribute(node, 'perm')?.ints.map(Number) ?? dims?.map((_, at) => dims.length - 1 - at);
    return dims && perm?.map((axis) => dims[axis]!);
  }
  if (node.opType === 'Reshape') {
    const [dims, shape] = [
      await inputDims(),
      await readConstant(tracing, scopes.resolve(value.scope, node.input[1] ?? '')),
    ];
    if (dims === undefined || shape === undefined) return undefined;
    const known = shape.values.map((dim, at) => (dim === 0 ? dims[at]! : dim));
    const rest = known.filter((dim) => dim !== -1).reduce((product, dim) => product * dim, 1);
    return known.map((dim) => (dim === -1 ? dims.reduce((product, dim) => product * dim, 1) / rest : dim));
  }
  return undefined;
}

/** Refuses values with readers that were not followed. @param noun for messages @throws UnsupportedModelError */
export function checkReaders({ scopes, followed }: Tracing, values: Iterable<ScopedValue>, noun: string): void {
  for (const value of values) {
    for (const { node, input } of scopes.consumersOf(value)) {
      if (node === undefined || node.opType === 'Shape' || followed.get(node)?.has(input)) continue;
      throw refuseNode(node, `reads ${noun} in an unknown way`);
    }
  }
}
