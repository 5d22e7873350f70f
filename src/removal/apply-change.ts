import type { PrunableModule } from '../architecture/layout.js';
import { UnsupportedModelError } from '../errors.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { describeShape } from '../onnx/tensor-handle.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { narrowKeyValues } from './narrow-key-values.js';
import { removeUnits } from './remove-units.js';
import { giveLinearBias, linearBiasName } from './repair-linear.js';
import { tidyModel } from './tidy-model.js';

/** Units that remain of one module. */
export interface ModuleCut {
  readonly module: PrunableModule;
  /** Ascending; none where the module is gone entirely. */
  readonly keep: Int32Array;
  /** Neuron units that remain in each expert of `keep`, see `Removal`. Of a mixture; absent: all. */
  readonly neurons?: Int32Array | undefined;
}

/** All that a run does to a model: units that leave, and weights that change. */
export interface ModelChange {
  /** In the order in which they were cut. */
  readonly modules: readonly ModuleCut[];
  /**
   * Initializers of the pruned graph with their new values, by name: in the shape that is left, in the file's data type. A
   * name that the graph lacks is the bias of an output projection that had none, see `linearBiasName`.
   */
  readonly changed: ReadonlyMap<string, TensorHandle>;
}

/** Whether a module ends in a linear layer, which may get another weight and a bias. */
export const isRepaired = ({ kind }: PrunableModule): boolean => kind !== 'experts';

/** Takes units out of a copy of the dense model and makes place for what changes; all weights are still the dense ones. */
export function cutModel(
  dense: OnnxModel,
  { detected, facts }: AnalysedModel,
  { modules, changed }: { readonly modules: readonly ModuleCut[]; readonly changed: { has(name: string): boolean } },
): OnnxModel {
  const model = copyModel(dense);
  for (const { module, keep, neurons } of modules) {
    removeUnits(model, { detected, facts, module: module.index, keep, neurons });
    if (isRepaired(module) && changed.has(linearBiasName(model, module.output))) giveLinearBias(model, module.output);
  }
  narrowKeyValues(model, { detected, facts }, modules);
  return model;
}

/**
 * Does to a copy of the dense model what a run did; nothing is measured.
 * @throws UnsupportedModelError when a weight that changed is not in the graph in this shape.
 */
export function applyChange(dense: OnnxModel, analysed: AnalysedModel, change: ModelChange): OnnxModel {
  const model = cutModel(dense, analysed, change);
  for (const [name, value] of change.changed) {
    const place = model.weights.get(name);
    const [found, expected] = [place && describeShape(place), describeShape(value)];
    if (found !== expected)
      throw new UnsupportedModelError(`weight "${name}" is ${found ?? 'not in the graph'}, expected ${expected}`);
    setWeight(model, name, value);
  }
  tidyModel(model);
  return model;
}

/** Weights that changed on the way as the pruned model holds them; those of modules that are gone remain as they are given. */
export function changedWeights(
  { weights }: OnnxModel,
  recorded: Iterable<readonly [string, TensorHandle]>,
): ReadonlyMap<string, TensorHandle> {
  return new Map([...recorded].map(([name, value]) => [name, weights.get(name) ?? value]));
}
