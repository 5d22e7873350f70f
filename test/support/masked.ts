import { readFloat32 } from '../../src/onnx/float-encoding.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import type { PruneOutcome } from '../../src/prune/job.js';
import type { ModuleCut } from '../../src/removal/apply-change.js';
import { findInputLinears } from '../../src/removal/input-linears.js';
import { maskModel } from '../../src/removal/mask-model.js';
import { linearBiasName, storeInMemory } from '../../src/removal/repair-linear.js';
import { type Loaded, relativeGap, runModel, someWindows } from './tiny-llama.js';

/** Input layers of an FFN whose weights a run changed. */
export const repairedInputs = (
  { model, changed }: PruneOutcome,
  { analysed: { detected } }: Pick<Loaded, 'analysed'>,
  { module, keep }: ModuleCut,
): string[] =>
  findInputLinears(model, { detected, module, keep })
    .map(({ weight }) => weight)
    .filter((weight) => changed.has(weight));

/** The bias that a run added to a module's output. */
export async function addedBias({ model, changed }: PruneOutcome, { module }: ModuleCut): Promise<Float32Array> {
  return readFloat32(changed.get(linearBiasName(model, module.output))!);
}

/** Gap between a pruned model's logits and those of its masked original, relative to their range. */
export async function gapToMasked({ model, analysed }: Loaded, outcome: PruneOutcome): Promise<number> {
  const logitsOf = async (subject: OnnxModel) =>
    (await runModel(subject, someWindows(2, 16))).logits!.data as Float32Array;
  const masked = await maskModel(model, outcome, { analysed, store: storeInMemory });
  return relativeGap(await logitsOf(outcome.model), await logitsOf(masked));
}
