import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import type { PruneOutcome } from '../../src/prune/job.js';
import { maskModel } from '../../src/removal/mask-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { type Loaded, relativeGap, runModel, someWindows } from './tiny-llama.js';

/** How far a pruned model's logits are from those of the dense one with the same removed and repaired, relative to their range. */
export async function gapToMasked({ model, analysed }: Loaded, outcome: PruneOutcome): Promise<number> {
  const logitsOf = async (subject: OnnxModel) =>
    (await runModel(subject, someWindows(2, 16))).logits!.data as Float32Array;
  const masked = await maskModel(model, outcome.modules, { detected: analysed.detected, store: storeInMemory });
  return relativeGap(await logitsOf(outcome.model), await logitsOf(masked));
}
