import { copyModel } from '../../src/onnx/edit-weights.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import type { PruneOutcome } from '../../src/prune.js';
import { maskUnits } from '../../src/removal/mask-units.js';
import { readLinearWeight } from '../../src/removal/repair-linear.js';
import { relativeGap, runModel, someWindows } from './tiny-llama.js';

/** The dense model with what was removed set to zero and what was repaired repaired. */
export async function maskLike(dense: OnnxModel, outcome: PruneOutcome): Promise<OnnxModel> {
  const masked = copyModel(dense);
  for (const { module, keep, bias } of outcome.modules) {
    if (keep.length === 0) {
      await maskUnits(masked, { module, keep, bias });
      continue;
    }
    const kept = await readLinearWeight(outcome.model, module.output);
    const [rows = 0, columns = 0] = kept.shape;
    const weight = Float32Array.from({ length: rows * columns }, (_, at) =>
      kept.get(Math.floor(at / columns), at % columns),
    );
    await maskUnits(masked, { module, keep, bias, weight });
  }
  return masked;
}

/** How far a pruned model's logits are from those of the masked one, relative to their range. */
export async function gapToMasked(dense: OnnxModel, outcome: PruneOutcome): Promise<number> {
  const logitsOf = async (model: OnnxModel) => (await runModel(model, someWindows(2, 16))).logits!.data as Float32Array;
  return relativeGap(await logitsOf(outcome.model), await logitsOf(await maskLike(dense, outcome)));
}
