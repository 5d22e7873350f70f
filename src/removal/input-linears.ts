import type { NodeProto } from 'onnx-buf';
import type { DetectedModel } from '../architecture/detect-layout.js';
import type { PrunableModule } from '../architecture/layout.js';
import { freeBytes } from '../free-bytes.js';
import { transposeMatrix } from '../linalg/matrix-block.js';
import { floatAttribute, intAttribute } from '../onnx/attributes.js';
import { setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, isFloatType, readFloat32 } from '../onnx/float-encoding.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { TensorShape } from '../onnx/tensor-handle.js';
import { NO_UNIT } from '../operators/axis-rule.js';
import { remainingPositions, remainingUnits } from './remaining-positions.js';
import type { ChangedWeight, StoreTensor } from './repair-linear.js';

/** A linear layer into an FFN: `gate`, `up`, or both in one. */
export interface InputLinear {
  /** Value it writes, neurons on the last axis. */
  readonly result: string;
  /** Initializer of its weight, and the axis of that with neurons. */
  readonly weight: string;
  readonly outputAxis: 0 | 1;
  /**
   * Positions on that axis of the output projection's channels, one list for each occurrence of a neuron: a linear layer
   * with gate and up has two.
   */
  readonly columns: readonly Int32Array[];
}

export interface InputLinearsRequest {
  readonly detected: DetectedModel;
  readonly module: PrunableModule;
  /** Remaining neurons, ascending. Absent: all. */
  readonly keep?: Int32Array | undefined;
}

/**
 * Finds the linear layers that read an FFN's input and compute its neurons, in the pruned graph.
 * @returns Empty if a neuron is not one column of each of them, or a weight is not float.
 */
export function findInputLinears(model: OnnxModel, { detected, module, keep }: InputLinearsRequest): InputLinear[] {
  if (module.kind !== 'ffn' || module.unitSize !== 1) return [];
  const linears: InputLinear[] = [];
  for (const node of model.proto.graph?.node ?? []) {
    const [result = ''] = node.output;
    const label = detected.traces[module.index]?.labels.get(result);
    if (label === undefined || node.input[0] !== module.input) continue;
    const [, weight = ''] = node.input;
    const handle = model.weights.get(weight);
    const outputAxis = outputAxisOf(node);
    if (outputAxis === undefined || handle?.dims.length !== 2 || !isFloatType(handle.dataType)) return [];
    const positions = keep && remainingPositions(label, remainingUnits(keep, undefined));
    const codes = positions === undefined ? label.unitIds : positions.map((position) => label.unitIds[position]!);
    const columns = columnsOf(codes, keep ?? Int32Array.from({ length: module.unitCount }, (_, unit) => unit));
    if (columns === undefined || codes.length !== handle.dims[outputAxis]) return [];
    linears.push({ result, weight, outputAxis, columns });
  }
  return linears;
}

/** Output axis of a linear layer's weight; undefined for an operator that is more than a product. */
function outputAxisOf(node: NodeProto): 0 | 1 | undefined {
  const op = qualifiedOp(node);
  if (op === 'MatMul') return 1;
  if (op !== 'Gemm' || intAttribute(node, 'transA', 0) !== 0 || floatAttribute(node, 'alpha', 1) !== 1)
    return undefined;
  return intAttribute(node, 'transB', 0) === 0 ? 1 : 0;
}

/** Undefined if neurons do not all occur equally often. */
function columnsOf(codes: Int32Array, neurons: Int32Array): Int32Array[] | undefined {
  const rankOf = new Map(Array.from(neurons, (neuron, rank) => [neuron, rank]));
  const lists: number[][] = [];
  const seen = new Map<number, number>();
  for (const [position, code] of codes.entries()) {
    if (code === NO_UNIT) continue;
    const rank = rankOf.get(code);
    if (rank === undefined) return undefined;
    const occurrence = seen.get(code) ?? 0;
    seen.set(code, occurrence + 1);
    lists[occurrence] ??= [];
    lists[occurrence]![rank] = position;
  }
  const isFull = (list: readonly number[]) => list.length === rankOf.size && !list.includes(undefined as never);
  return lists.length > 0 && lists.every(isFull) ? lists.map((list) => Int32Array.from(list)) : undefined;
}

/** Current weights of input projections, by name. */
export const inputWeights = (model: OnnxModel, linears: readonly InputLinear[]): ChangedWeight[] =>
  linears.map(({ weight }) => [weight, model.weights.get(weight)!]);

/** An input projection's weight, `[in, out]` row-major for any layout in the file. */
export async function readInputWeight(
  { weights }: OnnxModel,
  { weight, outputAxis }: InputLinear,
): Promise<Float32Array> {
  const handle = weights.get(weight)!;
  const values = await readFloat32(handle);
  const [rows = 0, columns = 0] = handle.dims;
  if (outputAxis === 1) return values;
  const transposed = transposeMatrix(values, rows, columns);
  freeBytes(values);
  return transposed;
}

/** Replaces an input projection's weight by `values`, `[in, out]` row-major, in the file's own layout and data type. */
export async function writeInputWeight(
  model: OnnxModel,
  linear: InputLinear,
  { values, store }: { readonly values: Float32Array; readonly store: StoreTensor },
): Promise<ChangedWeight> {
  const { dataType, dims } = model.weights.get(linear.weight)!;
  const written = await store({ dataType, dims }, encodeRows(values, { dataType, dims }, linear));
  setWeight(model, linear.weight, written);
  return [linear.weight, written];
}

function encodeRows(
  values: Float32Array,
  { dataType, dims }: TensorShape,
  { outputAxis }: InputLinear,
): Uint8Array<ArrayBuffer> {
  if (outputAxis === 1) return encodeFloats(dataType, values);
  const [rows = 0, columns = 0] = dims;
  const transposed = transposeMatrix(values, columns, rows);
  const bytes = encodeFloats(dataType, transposed);
  freeBytes(transposed);
  return bytes;
}
