import type { PrunableModule } from '../architecture/layout.js';
import { UnsupportedModelError } from '../errors.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { describeShape } from '../onnx/tensor-handle.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { narrowKeyValues } from './narrow-key-values.js';
import { removeUnits } from './remove-units.js';
import { ensureLinearBias, linearBiasName } from './repair-linear.js';
import { tidyModel } from './tidy-model.js';

/** Units that remain of one module. */
export interface ModuleCut {
  readonly module: PrunableModule;
  /** Ascending; empty if the module is removed entirely. */
  readonly keep: Int32Array;
  /** Neuron units that remain in each expert of `keep`, see `Removal`; absent: all. */
  readonly neurons?: Int32Array | undefined;
}

/** Entire effect of a run on a model: remaining units and changed weights. */
export interface ModelChange {
  /** In the order of pruning. */
  readonly modules: readonly ModuleCut[];
  /**
   * New values of the pruned graph's initializers, by name, in the pruned shape and the file's data type. A name that the
   * graph lacks is the bias of an output projection that had none, see `linearBiasName`.
   */
  readonly changed: ReadonlyMap<string, TensorHandle>;
}

/** Whether a module ends in a single linear layer, whose weight and bias a repair can change. */
export const isRepairable = ({ kind }: PrunableModule): boolean => kind !== 'experts';

/** Removes units from a copy of the dense model and adds the biases that a change needs; weights keep their dense values. */
export function cutModel(
  dense: OnnxModel,
  { detected, facts }: AnalysedModel,
  { modules, changed }: { readonly modules: readonly ModuleCut[]; readonly changed: { has(name: string): boolean } },
): OnnxModel {
  const model = copyModel(dense);
  for (const { module, keep, neurons } of modules) {
    removeUnits(model, { detected, facts, module: module.index, keep, neurons });
    if (isRepairable(module) && changed.has(linearBiasName(model, module.output)))
      ensureLinearBias(model, module.output);
  }
  narrowKeyValues(model, { detected, facts }, modules);
  return model;
}

/**
 * Applies a run's change to a copy of the dense model, without measuring.
 * @throws UnsupportedModelError when a changed weight is missing in the graph or has another shape.
 */
export function applyChange(dense: OnnxModel, analysed: AnalysedModel, change: ModelChange): OnnxModel {
  const model = cutModel(dense, analysed, change);
  for (const [name, value] of change.changed) {
    const current = model.weights.get(name);
    const [found, expected] = [current && describeShape(current), describeShape(value)];
    if (found !== expected)
      throw new UnsupportedModelError(`weight "${name}" is ${found ?? 'not in the graph'}, expected ${expected}`);
    setWeight(model, name, value);
  }
  tidyModel(model);
  return model;
}

/** Recorded weights with their values in the pruned model; those that it no longer has keep the recorded value. */
export function changedWeights(
  { weights }: OnnxModel,
  recorded: Iterable<readonly [string, TensorHandle]>,
): ReadonlyMap<string, TensorHandle> {
  return new Map([...recorded].map(([name, value]) => [name, weights.get(name) ?? value]));
}
