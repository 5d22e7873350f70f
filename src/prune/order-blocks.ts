import { copyModel } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { cutInputs, orderKeepingBlocks } from '../quantisation/keep-blocks.js';
import { cutModel, type ModelChange } from '../removal/apply-change.js';
import { type MovedAxis, reorderUnits, type UnitOrder } from '../removal/reorder-units.js';
import { linearWeightName } from '../removal/repair-linear.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import type { PruneJob } from './job.js';

/** A pruned model whose neurons are ordered so that most blocks of its output projections keep their codes. */
export interface OrderedModel {
  readonly model: OnnxModel;
  /** The original model with the same removals and order, whose weights still refer to their codes. */
  readonly cut: OnnxModel;
  readonly orders: readonly UnitOrder[];
  /** By weight name. */
  readonly moved: ReadonlyMap<string, MovedAxis>;
}

/**
 * Orders the neurons of every FFN whose output projection has blocks along its inputs, see `orderKeepingBlocks`.
 * @param job Has the pruned model. @param given The original model.
 */
export function orderBlocks(
  { model: pruned, analysed: { detected } }: Pick<PruneJob, 'model' | 'analysed'>,
  given: UnderstoodModel,
  change: ModelChange,
): OrderedModel {
  const modules = change.modules.filter(({ keep }) => keep.length > 0);
  const cut = cutModel(given.model, given.analysed, { ...change, modules });
  const model = copyModel(pruned);
  const orders: UnitOrder[] = [];
  const moved = new Map<string, MovedAxis>();
  for (const { kind, unitSize, unitCount, index, output } of detected.layout.modules) {
    if (kind !== 'ffn' || unitSize > 1) continue;
    const handle = cut.weights.get(linearWeightName(model, output));
    const inputs = handle && cutInputs(handle, output.inputAxis);
    if (inputs?.keep.length !== unitCount) continue;
    const order = orderKeepingBlocks(inputs.keep, inputs.blockSize);
    if (order.every((from, at) => from === at)) continue;
    const unitOrder = { module: index, order };
    const found = reorderUnits(model, detected, unitOrder);
    if (found.size === 0) continue;
    reorderUnits(cut, detected, unitOrder);
    orders.push(unitOrder);
    for (const [name, axis] of found) moved.set(name, axis);
  }
  return { model, cut, orders, moved };
}
