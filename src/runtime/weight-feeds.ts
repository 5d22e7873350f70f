import { UnsupportedModelError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { describeShape } from '../onnx/tensor-handle.js';
import { ARRAYS, type Tensor, type Tensors, typeOf } from './engine.js';

/**
 * Weights as they are now, to feed to a stage that was compiled with them as `fed`.
 * @throws UnsupportedModelError for a weight that is gone, or of a type that no engine takes.
 */
export async function weightFeeds({ weights }: OnnxModel, names: readonly string[]): Promise<Tensors> {
  const feeds: Record<string, Tensor> = {};
  for (const name of names) {
    const handle = weights.get(name);
    const type = handle && typeOf(handle.dataType);
    if (handle === undefined || type === undefined)
      throw new UnsupportedModelError(
        `weight "${name}" is ${handle ? describeShape(handle) : 'gone'} and cannot be fed`,
      );
    const { buffer } = await handle.read();
    feeds[name] = { type, dims: handle.dims, data: new ARRAYS[type](buffer) } as Tensor;
  }
  return feeds;
}
