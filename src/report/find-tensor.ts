import type { ModelFormatError } from '../errors.js';
import { readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import type { TensorMap } from '../onnx/safetensors.js';
import { describeShape, type TensorShape } from '../onnx/tensor-handle.js';
import { damaged, type SavedKind } from './saved-file.js';

/** `TensorProto.DataType` numbers of tensors that are saved next to JSON files. */
export const TENSOR_TYPES = { float: 1, int: 6, double: 11 } as const;

/** Tensors next to a JSON file. */
export interface SavedTensors {
  readonly tensors: TensorMap;
  /** Kind and paths, for messages. */
  readonly files: { readonly kind: SavedKind; readonly json: string; readonly tensors: string };
}

/** Finds a tensor of an expected shape. @throws ModelFormatError naming file and tensor. */
export function findTensor(name: string, shape: TensorShape, saved: SavedTensors): TensorHandle {
  const found = saved.tensors.get(name);
  if (found?.dataType === shape.dataType && String(found.dims) === String(shape.dims)) return found;
  throw brokenTensor(name, `is ${found ? describeShape(found) : 'missing'}, expected ${describeShape(shape)}`, saved);
}

/** Reads a float64 tensor. @throws ModelFormatError when it contains NaN or infinity. */
export async function readDoubles(name: string, dims: readonly number[], saved: SavedTensors): Promise<Float64Array> {
  const handle = findTensor(name, { dataType: TENSOR_TYPES.double, dims }, saved);
  return finite(name, new Float64Array((await handle.read()).slice().buffer), saved);
}

/** Reads a float32 tensor. @throws ModelFormatError when it contains NaN or infinity. */
export async function readFloats(name: string, dims: readonly number[], saved: SavedTensors): Promise<Float32Array> {
  const handle = findTensor(name, { dataType: TENSOR_TYPES.float, dims }, saved);
  return finite(name, await readFloat32(handle), saved);
}

/** Reads an int32 tensor. @throws ModelFormatError when a value is outside `[least, limit)`. */
export async function readIntegers(
  name: string,
  { dims, least, limit }: { readonly dims: readonly number[]; readonly least: number; readonly limit: number },
  saved: SavedTensors,
): Promise<Int32Array> {
  const handle = findTensor(name, { dataType: TENSOR_TYPES.int, dims }, saved);
  const values = new Int32Array((await handle.read()).slice().buffer);
  const invalid = values.find((value) => value < least || value >= limit);
  if (invalid !== undefined) throw brokenTensor(name, `contains ${invalid}, expected ${least} to ${limit - 1}`, saved);
  return values;
}

function finite<T extends Float32Array | Float64Array>(name: string, values: T, saved: SavedTensors): T {
  const invalid = values.find((value: number) => !Number.isFinite(value));
  if (invalid !== undefined) throw brokenTensor(name, `contains ${invalid}`, saved);
  return values;
}

function brokenTensor(name: string, problem: string, { files }: SavedTensors): ModelFormatError {
  return damaged(files.kind, `${files.tensors}: tensor "${name}" ${problem}`);
}
