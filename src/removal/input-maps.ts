import type { NodeProto } from 'onnx-buf';
import { FREE } from '../architecture/axis-rules/axis-rule.js';
import type { DetectedModel } from '../architecture/detect-layout.js';
import type { PrunableModule } from '../architecture/layout.js';
import { UnsupportedModelError } from '../errors.js';
import { floatAttribute, intAttribute } from '../graph/attributes.js';
import { qualifiedOp } from '../graph/graph-index.js';
import { transposeMatrix } from '../linalg/matrix-block.js';
import { setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, isFloatType, readFloat32 } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { TensorShape } from '../onnx/tensor-handle.js';
import { editGraph } from './graph-editor.js';
import { channelsOf } from './judge-module.js';
import { keptPositions, keptUnits } from './kept-positions.js';
import type { StoreTensor } from './repair-linear.js';

/** A linear map into an FFN: `gate`, `up`, or both in one. */
export interface InputMap {
  /** Value it writes, neurons on the last axis. */
  readonly result: string;
  /** Initializer with its weight, and which of its axes is the neurons'. */
  readonly weight: string;
  readonly outputAxis: 0 | 1;
  /**
   * Where on that axis the channels of the FFN's output map are made, one list for each time that a neuron occurs: a
   * map that holds gate and up together has two.
   */
  readonly columns: readonly Int32Array[];
}

export interface InputMapsRequest {
  readonly detected: DetectedModel;
  readonly module: PrunableModule;
  /** Neurons that the graph still has, ascending. */
  readonly keep: Int32Array;
}

/**
 * Finds the linear maps that read an FFN's input and make its channels, as the graph stands now.
 * @returns none where a neuron is not one column of each of them, or where they hold more than float weights.
 */
export function findInputMaps(model: OnnxModel, { detected, module, keep }: InputMapsRequest): InputMap[] {
  const trace = detected.traces[module.index];
  if (trace === undefined || module.kind !== 'ffn' || module.unitSize !== 1) return [];
  const kept = keptUnits(keep, undefined);
  const rankOf = new Map(Array.from(channelsOf(module, keep), (channel, at) => [module.unitOfChannel[channel]!, at]));
  const maps: InputMap[] = [];
  for (const node of model.proto.graph?.node ?? []) {
    const [result = ''] = node.output;
    const label = trace.labels.get(result);
    if (label === undefined || node.input[0] !== module.input) continue;
    const [, weight = ''] = node.input;
    const handle = model.weights.get(weight);
    const outputAxis = outputAxisOf(node);
    if (outputAxis === undefined || handle?.dims.length !== 2 || !isFloatType(handle.dataType)) return [];
    const codes = Array.from(keptPositions(label, kept), (position) => label.codes[position]!);
    const columns = columnsOf(codes, rankOf);
    if (columns === undefined || codes.length !== handle.dims[outputAxis]) return [];
    maps.push({ result, weight, outputAxis, columns });
  }
  return maps;
}

/** Axis of a map's weight that its output lies on; undefined for an operator that is more than a product. */
function outputAxisOf(node: NodeProto): 0 | 1 | undefined {
  const op = qualifiedOp(node);
  if (op === 'MatMul') return 1;
  if (op !== 'Gemm' || intAttribute(node, 'transA', 0) !== 0 || floatAttribute(node, 'alpha', 1) !== 1)
    return undefined;
  return intAttribute(node, 'transB', 0) === 0 ? 1 : 0;
}

/** Undefined where neurons do not all occur equally often. */
function columnsOf(codes: readonly number[], rankOf: ReadonlyMap<number, number>): Int32Array[] | undefined {
  const lists: number[][] = [];
  const seen = new Map<number, number>();
  for (const [position, code] of codes.entries()) {
    if (code === FREE) continue;
    const rank = rankOf.get(code);
    if (rank === undefined) return undefined;
    const time = seen.get(code) ?? 0;
    seen.set(code, time + 1);
    lists[time] ??= [];
    lists[time]![rank] = position;
  }
  const isFull = (list: readonly number[]) => list.length === rankOf.size && !list.includes(undefined as never);
  return lists.length > 0 && lists.every(isFull) ? lists.map((list) => Int32Array.from(list)) : undefined;
}

/** Shapes of the weights of the maps into an FFN once only some neurons stay; `model` is the dense one. */
export function inputShapes(model: OnnxModel, { detected, module, keep }: InputMapsRequest): TensorShape[] {
  const whole = Int32Array.from({ length: module.unitCount }, (_, unit) => unit);
  return findInputMaps(model, { detected, module, keep: whole }).map(({ result, weight, outputAxis }) => {
    const { dataType, dims } = model.weights.get(weight)!;
    const label = detected.traces[module.index]!.labels.get(result)!;
    const width = keptPositions(label, keptUnits(keep, undefined)).length;
    return { dataType, dims: dims.map((dim, axis) => (axis === outputAxis ? width : dim)) };
  });
}

/** Replaces the weights of the maps into an FFN by others of the same shape and type. @throws UnsupportedModelError when their number differs. */
export function replaceInputWeights(
  model: OnnxModel,
  request: InputMapsRequest,
  weights: readonly TensorHandle[],
): void {
  const maps = findInputMaps(model, request);
  if (maps.length !== weights.length) throw mismatch(request.module, maps.length, weights.length);
  for (const [at, { weight }] of maps.entries()) setWeight(model, weight, weights[at]!);
}

/**
 * Does in place to a dense model what `replaceInputWeights` does to a pruned one: neurons that stay get their repaired
 * columns, the others keep theirs.
 * @throws UnsupportedModelError when the numbers of maps and weights differ.
 */
export async function maskInputWeights(
  model: OnnxModel,
  { detected, module, keep }: InputMapsRequest,
  { weights, store }: { readonly weights: readonly TensorHandle[]; readonly store: StoreTensor },
): Promise<void> {
  const whole = Int32Array.from({ length: module.unitCount }, (_, unit) => unit);
  const maps = findInputMaps(model, { detected, module, keep: whole });
  if (maps.length !== weights.length) throw mismatch(module, maps.length, weights.length);
  const editor = editGraph(model);
  for (const [at, map] of maps.entries()) {
    const positions = keptPositions(detected.traces[module.index]!.labels.get(map.result)!, keptUnits(keep, undefined));
    const handle = model.weights.get(map.weight)!;
    const [values, kept] = await Promise.all([readFloat32(handle), readFloat32(weights[at]!)]);
    const [, width = 0] = handle.dims;
    const rows = values.length / width;
    for (const [column, position] of positions.entries()) {
      const length = map.outputAxis === 1 ? rows : width;
      for (let i = 0; i < length; i += 1) {
        if (map.outputAxis === 1) values[i * width + position] = kept[i * positions.length + column]!;
        else values[position * width + i] = kept[column * width + i]!;
      }
    }
    const { dataType, dims } = handle;
    const masked = await store({ dataType, dims }, encodeFloats(dataType, values));
    const readers = editor.consumersOf(map.weight);
    if (readers.length === 1) setWeight(model, map.weight, masked);
    else
      editor.rewire(
        readers.filter((node) => node.output.includes(map.result)),
        map.weight,
        editor.addWeight(`${map.weight}/masked`, masked),
      );
  }
}

const mismatch = ({ block, kind }: PrunableModule, found: number, given: number): UnsupportedModelError =>
  new UnsupportedModelError(
    `block ${block} ${kind} has ${found} maps into it, and ${given} repaired weights were given`,
  );

/** An input map's weight, `[in, out]` row-major whatever its layout in the file. */
export async function readInputWeight(model: OnnxModel, { weight, outputAxis }: InputMap): Promise<Float64Array> {
  const handle = model.weights.get(weight)!;
  const values = Float64Array.from(await readFloat32(handle));
  const [rows = 0, columns = 0] = handle.dims;
  return outputAxis === 1 ? values : transposeMatrix(values, rows, columns);
}

/** Replaces an input map's weight by `values`, `[in, out]` row-major, in the file's own layout and data type. */
export async function writeInputWeight(
  model: OnnxModel,
  { weight, outputAxis }: InputMap,
  { values, store }: { readonly values: Float64Array; readonly store: StoreTensor },
): Promise<TensorHandle> {
  const { dataType, dims } = model.weights.get(weight)!;
  const [rows = 0, columns = 0] = dims;
  const laidOut = outputAxis === 1 ? values : transposeMatrix(values, columns, rows);
  const written = await store({ dataType, dims }, encodeFloats(dataType, laidOut));
  setWeight(model, weight, written);
  return written;
}
