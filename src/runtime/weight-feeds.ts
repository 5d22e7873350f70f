import { UnsupportedModelError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { describeShape } from '../onnx/tensor-handle.js';
import { ARRAYS, type Tensor, type Tensors, typeOf } from './engine.js';

/**
 * Current weights, as feeds of a stage that was compiled with them as `fed`.
 * @throws UnsupportedModelError for a missing weight, or a type that engines do not support.
 */
export async function weightFeeds({ weights }: OnnxModel, names: readonly string[]): Promise<Tensors> {
  const feeds: Record<string, Tensor> = {};
  for (const name of names) {
    const handle = weights.get(name);
    const type = handle && typeOf(handle.dataType);
    if (handle === undefined || type === undefined)
      throw new UnsupportedModelError(
        `weight "${name}" is ${handle ? describeShape(handle) : 'missing'} and cannot be fed`,
      );
    const { buffer } = await handle.read();
    feeds[name] = { type, dims: handle.dims, data: new ARRAYS[type](buffer) } as Tensor;
  }
  return feeds;
}
