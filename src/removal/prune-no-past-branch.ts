import { UnsupportedModelError } from '../errors.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { mergeDecoders } from '../onnx/merged-decoder.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { analyseModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import { applyChange, isRepairable, type ModelChange } from './apply-change.js';
import { linearBiasName } from './repair-linear.js';

/**
 * Prunes a merged decoder's branch without past as its branch with past was, and merges both; any other model is returned
 * unchanged.
 * @throws UnsupportedModelError when the branches differ in more than their cache, or a module is removed entirely.
 */
export async function pruneNoPastBranch(pruned: OnnxModel, change: ModelChange, engine: Engine): Promise<OnnxModel> {
  const { noPastBranch } = pruned;
  if (noPastBranch === undefined) return pruned;
  return mergeDecoders(
    pruned,
    withoutEmbeddingPrefix(await cutNoPastBranch({ ...pruned, noPastBranch }, change, engine)),
  );
}

/** Branch with past of a merged decoder, with the branch without. */
export type MergedDecoder = OnnxModel & Required<Pick<OnnxModel, 'noPastBranch'>>;

/** Prunes the branch without past as the branch with past was. @throws see `pruneNoPastBranch` */
export async function cutNoPastBranch(pruned: MergedDecoder, change: ModelChange, engine: Engine): Promise<OnnxModel> {
  const { noPastBranch } = pruned;
  const analysed = await analyseModel(noPastBranch.model, engine);
  const changed = new Map(change.changed);
  const modules = change.modules.map(({ module: { kind, block, index, unitCount, output }, keep, neurons }) => {
    const module = analysed.detected.layout.modules[index];
    if (module?.kind !== kind || module.unitCount !== unitCount || module.output.weight !== output.weight) {
      throw new UnsupportedModelError(
        `block ${block} ${kind}: the decoder without past differs from the one with it, expected the same weights; prune decoder_with_past_model.onnx, or export one graph with a KV cache`,
      );
    }
    if (keep.length === 0) {
      throw new UnsupportedModelError(
        `block ${block} ${kind} is removed entirely, which is not supported for merged decoders yet; raise minimumWidth above 0`,
      );
    }
    // Weights have the same name in both branches; biases are named after each branch's values.
    if (!isRepairable(module)) return { module, keep, neurons };
    const bias = linearBiasName(pruned, output);
    const value = change.changed.get(bias);
    if (value !== undefined && changed.delete(bias))
      changed.set(linearBiasName(noPastBranch.model, module.output), value);
    return { module, keep };
  });
  return applyChange(noPastBranch.model, analysed, { modules, changed });
}
