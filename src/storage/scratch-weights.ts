import { ModelFormatError } from '../errors.js';
import { expectedByteLength, sourceHandle } from '../onnx/tensor-handle.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import type { Platform } from '../runtime/platform.js';
import type { ScratchFile } from '../runtime/tensor-store.js';

/** Runs an action with scratch space for tensors. */
export async function withScratchWeights<T>(
  { createScratch }: Platform,
  action: (store: StoreTensor) => Promise<T>,
): Promise<T> {
  const scratch = await createScratch();
  return action(createScratchWeights(scratch)).finally(() => scratch.dispose());
}

/** Stores tensors one after the other. @throws ModelFormatError when the number of bytes does not match the shape. */
export function createScratchWeights(scratch: ScratchFile): StoreTensor {
  let end = 0;
  return async (shape, bytes) => {
    if (bytes.byteLength !== expectedByteLength(shape)) {
      throw new ModelFormatError(
        `A tensor of ${expectedByteLength(shape)} bytes cannot be stored as ${bytes.byteLength} bytes.`,
      );
    }
    // Reserved before writing, so that writes may overlap.
    const offset = end;
    end += bytes.byteLength;
    await scratch.write(offset, bytes);
    const read = async (from: number, length: number) => {
      const found = new Uint8Array(length);
      await scratch.readInto(from, found);
      return found;
    };
    return sourceHandle(shape, { name: 'scratch space', byteLength: end, read }, offset);
  };
}
