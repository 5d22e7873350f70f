import type { DetectedModel } from '../architecture/detect-layout.js';
import { copyModel } from '../onnx/edit-weights.js';
import { readFloat32 } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { maskInputWeights } from './input-maps.js';
import { type Masking, maskUnits } from './mask-units.js';
import type { StoreTensor } from './repair-linear.js';

/** What pruning did to one module, as `maskModel` does it to the dense model. */
export interface MaskedModule extends Pick<Masking, 'module' | 'keep' | 'bias'> {
  /** Repaired weights of the maps into an FFN as they were written. @see replaceInputWeights */
  readonly inputs?: readonly TensorHandle[] | undefined;
  /** Repaired weight of the output map as it was written, kept channels alone, in the file's own layout. */
  readonly weight?: TensorHandle | undefined;
}

export interface MaskRequest extends Pick<Masking, 'nudge'> {
  readonly detected: DetectedModel;
  readonly store: StoreTensor;
}

/**
 * The masked original of a pruned model: a copy of the dense one with the removed channels zeroed and the repairs applied.
 * @param store Keeps the masked weights. @see maskUnits
 * @param nudge Has the output maps rounded otherwise. @see maskUnits
 */
export async function maskModel(
  dense: OnnxModel,
  modules: readonly MaskedModule[],
  { detected, store, nudge }: MaskRequest,
): Promise<OnnxModel> {
  const masked = copyModel(dense);
  for (const { weight, inputs, ...masking } of modules) {
    const repaired = weight && (await readRepaired(weight, masking.module.output.inputAxis));
    await maskUnits(masked, { ...masking, weight: repaired, store, nudge });
    if (inputs !== undefined) await maskInputWeights(masked, { ...masking, detected }, { weights: inputs, store });
  }
  return masked;
}

/** A weight as `[out, kept]` row-major. */
async function readRepaired(handle: TensorHandle, inputAxis: 0 | 1): Promise<Float32Array> {
  const values = await readFloat32(handle);
  if (inputAxis === 1) return values;
  const [kept = 0, outputCount = 0] = handle.dims;
  const turned = new Float32Array(values.length);
  for (let out = 0; out < outputCount; out += 1) {
    for (let channel = 0; channel < kept; channel += 1) {
      turned[out * kept + channel] = values[channel * outputCount + out]!;
    }
  }
  return turned;
}
