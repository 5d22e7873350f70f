import ndarray from 'ndarray';
import type { NodeProto } from 'onnx-buf';
import type { OutputLinear } from '../architecture/layout.js';
import type { LinearWeight } from '../compensation/adapter.js';
import { UnsupportedModelError } from '../errors.js';
import { transposeMatrix } from '../linalg/matrix-block.js';
import { intAttribute } from '../onnx/attributes.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import { inputsOf, qualifiedOp } from '../onnx/graph-index.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { bytesHandle, floatsHandle, type TensorShape } from '../onnx/tensor-handle.js';
import { editGraph, type GraphEditor } from './graph-editor.js';

/** Stores a rewritten weight until the model is saved: in memory, or in a temporary file. */
export type StoreTensor = (shape: TensorShape, bytes: Uint8Array<ArrayBuffer>) => TensorHandle | Promise<TensorHandle>;

/** A store that holds everything in memory. */
export const storeInMemory: StoreTensor = bytesHandle;

/** Reads a linear layer's weight as `[out, in]`, for any layout in the file. */
export async function readLinearWeight(model: OnnxModel, linear: OutputLinear): Promise<LinearWeight> {
  const name = weightName(editGraph(model), linear);
  const handle = model.weights.get(name)!;
  const [rows = 0, columns = 0] = handle.dims;
  const matrix = ndarray(await readFloat32(handle), [rows, columns]);
  return linear.inputAxis === 1 ? matrix : matrix.transpose(1, 0);
}

/** An initializer's name and current value. */
export type ChangedWeight = readonly [name: string, value: TensorHandle];

/**
 * Replaces a linear layer's weight by `values`, `[out, in]` row-major, in the file's own layout and data type.
 * @returns the weight as it will be saved.
 */
export async function writeLinearWeight(
  model: OnnxModel,
  linear: OutputLinear,
  { values, store }: { readonly values: Float32Array; readonly store: StoreTensor },
): Promise<ChangedWeight> {
  const name = weightName(editGraph(model), linear);
  const { dataType, dims } = model.weights.get(name)!;
  const [rows = 0, columns = 0] = dims;
  const inFileLayout = linear.inputAxis === 1 ? values : transposeMatrix(values, columns, rows);
  const written = await store({ dataType, dims }, encodeFloats(dataType, inFileLayout));
  setWeight(model, name, written);
  return [name, written];
}

/**
 * Adds `bias` (length `outputCount`) to a linear layer's result: to its bias if it has one, otherwise by a new Add.
 * @returns the bias as it will be saved.
 */
export async function addLinearBias(
  model: OnnxModel,
  linear: OutputLinear,
  bias: Float64Array,
): Promise<ChangedWeight> {
  const place = biasPlace(model, linear);
  const sum = await addToBias(place, bias);
  place.put(sum);
  return [place.name, sum];
}

/** The bias that `addLinearBias` would write, without changing the model. If `bias` is undefined: the existing one. */
export async function sumLinearBias(
  model: OnnxModel,
  linear: OutputLinear,
  bias: Float64Array | undefined,
): Promise<ChangedWeight | undefined> {
  const place = biasPlace(model, linear);
  if (bias !== undefined) return [place.name, await addToBias(place, bias)];
  return place.handle && [place.name, place.handle];
}

/** Name of the initializer with a linear layer's own bias, which exists or which `ensureLinearBias` would add. */
export function linearBiasName(model: OnnxModel, linear: OutputLinear): string {
  return biasPlace(model, linear).name;
}

/** Makes sure that a linear layer has its own bias: a copy of a shared one, or zeros. */
export function ensureLinearBias(model: OnnxModel, linear: OutputLinear): void {
  const { shape, handle, put } = biasPlace(model, linear);
  put(handle ?? floatsHandle(shape, new Float64Array(linear.outputCount)));
}

/** Place of a linear layer's own bias, which may not exist yet. */
interface BiasPlace {
  readonly name: string;
  readonly shape: TensorShape;
  /** Current bias; absent: none. */
  readonly handle: TensorHandle | undefined;
  put(bias: TensorHandle): void;
}

async function addToBias({ shape, handle }: BiasPlace, bias: Float64Array): Promise<TensorHandle> {
  const old = handle && (await readFloat32(handle));
  const sum = old === undefined ? bias : bias.map((value, at) => value + (old[at] ?? 0));
  return floatsHandle(shape, sum);
}

function biasPlace(model: OnnxModel, linear: OutputLinear): BiasPlace {
  const editor = editGraph(model);
  const node = linearNode(editor, linear);
  const existing = findBias(editor, node, linear);
  if (existing !== undefined) {
    const handle = model.weights.get(existing.name)!;
    const { dataType, dims } = handle;
    // Exporters merge equal weights: another node, such as a norm, may read the same initializer.
    const reads = editor
      .consumersOf(existing.name)
      .flatMap(inputsOf)
      .filter((name) => name === existing.name);
    const name = reads.length === 1 ? existing.name : editor.freshName(`${existing.name}/compensated`);
    const put = (bias: TensorHandle): void => {
      setWeight(model, name, bias);
      existing.reader.input[existing.slot] = name;
    };
    return { name, shape: { dataType, dims }, handle, put };
  }
  const dataType = productType(editor, linear);
  const name = editor.freshName(`${linear.result}/bias`);
  const put = (bias: TensorHandle): void => {
    setWeight(model, name, bias);
    const unbiased = editor.freshName(unbiasedName(linear));
    node.output = node.output.map((value) => (value === linear.result ? unbiased : value));
    editor.insertAfter(node, {
      op: 'Add',
      name: `${node.name || linear.result}/bias`,
      inputs: [unbiased, name],
      outputs: [linear.result],
    });
  };
  return { name, shape: { dataType, dims: [linear.outputCount] }, handle: undefined, put };
}

/** Name of the initializer that is now a linear layer's weight. */
export function linearWeightName(model: OnnxModel, linear: OutputLinear): string {
  return weightName(editGraph(model), linear);
}

/** The bias operand of a Gemm, or of the only Add or skip norm that reads the product. */
function findBias(
  editor: GraphEditor,
  node: NodeProto,
  linear: OutputLinear,
): { readonly name: string; readonly reader: NodeProto; readonly slot: number } | undefined {
  const fits = (name: string | undefined): name is string => {
    const dims = editor.model.weights.get(name ?? '')?.dims;
    return dims?.length === 1 && dims[0] === linear.outputCount;
  };
  const own = node.opType === 'Gemm' ? node.input[2] : undefined;
  if (fits(own)) return { name: own, reader: node, slot: 2 };
  // An Add that `biasPlace` inserted has the name of the result.
  const result = node.output.includes(linear.result) ? linear.result : unbiasedName(linear);
  const readers = editor.consumersOf(result);
  const [reader] = readers;
  if (readers.length !== 1 || reader === undefined) return undefined;
  const known = BIAS_SLOTS[qualifiedOp(reader)];
  if (known === undefined) return undefined;
  const slot = known === 'other' ? reader.input.findIndex((value) => value !== result) : known;
  const name = reader.input[slot];
  const addsHere = known === 'other' || reader.input.indexOf(result) < 2;
  return addsHere && fits(name) ? { name, reader, slot } : undefined;
}

const BIAS_SLOTS: Readonly<Record<string, number | 'other'>> = {
  Add: 'other',
  'com.microsoft.SkipLayerNormalization': 4,
  'com.microsoft.SkipSimplifiedLayerNormalization': 3,
};

const unbiasedName = ({ result }: OutputLinear): string => `${result}/unbiased`;

function linearNode(editor: GraphEditor, linear: OutputLinear): NodeProto {
  const node = editor.producerOf(linear.result) ?? editor.producerOf(unbiasedName(linear));
  if (node === undefined) throw new UnsupportedModelError(`the linear layer ${linear.node} is no longer in the graph`);
  return node.opType === 'Add' ? (editor.producerOf(unbiasedName(linear)) ?? node) : node;
}

/** Data type of a linear layer's product; its weight may have another before a Cast. */
function productType(editor: GraphEditor, linear: OutputLinear): number {
  const [, read = ''] = linearNode(editor, linear).input;
  for (let node = editor.producerOf(read); node !== undefined; node = editor.producerOf(node.input[0] ?? ''))
    if (node.opType === 'Cast') return intAttribute(node, 'to', FLOAT32);
  return editor.model.weights.get(weightName(editor, linear))!.dataType;
}

function weightName(editor: GraphEditor, linear: OutputLinear): string {
  let name = linearNode(editor, linear).input[1] ?? '';
  while (!editor.model.weights.has(name)) {
    const producer = editor.producerOf(name);
    if (producer === undefined)
      throw new UnsupportedModelError(`the weight of ${linear.node} is no longer in the graph`);
    name = producer.input[0] ?? '';
  }
  return name;
}
