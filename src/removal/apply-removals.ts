import type { PrunableModule } from '../architecture/layout.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { replaceInputWeights } from './input-maps.js';
import { removeUnits } from './remove-units.js';
import { addLinearBias, replaceLinearWeight } from './repair-linear.js';
import { tidyModel } from './tidy-model.js';

/** What was decided about one module. */
export interface DecidedRemoval {
  readonly module: PrunableModule;
  /** Units that stay, ascending. */
  readonly keep: Int32Array;
  /** Repaired weight of the output map, kept channels alone, in the file's own layout and data type. */
  readonly weight?: TensorHandle | undefined;
  /** Repaired weights of the maps into an FFN, kept neurons alone. @see replaceInputWeights */
  readonly inputs?: readonly TensorHandle[] | undefined;
  /** Added to the output map's result. */
  readonly bias?: Float64Array | undefined;
}

/** Takes decided removals out of a copy of the dense model, in their order; nothing is measured. */
export async function applyRemovals(
  dense: OnnxModel,
  { detected, facts }: AnalysedModel,
  removals: readonly DecidedRemoval[],
): Promise<OnnxModel> {
  const model = copyModel(dense);
  for (const { module, keep, weight, inputs, bias } of removals) {
    removeUnits(model, { detected, facts, module: module.index, keep });
    if (weight !== undefined) replaceLinearWeight(model, module.output, weight);
    if (inputs !== undefined) replaceInputWeights(model, { detected, module, keep }, inputs);
    if (bias !== undefined) await addLinearBias(model, module.output, bias);
  }
  tidyModel(model);
  return model;
}
