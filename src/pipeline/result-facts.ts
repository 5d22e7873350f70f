import { isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { planExternalFiles, type SavedModel } from '../onnx/save-model.js';
import type { PruneOutcome } from '../prune/job.js';
import type { ModuleCut } from '../removal/apply-change.js';
import { blockWidths, mendConfig, mendGenaiConfig } from '../removal/mend-config.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { hashFiles } from '../storage/hash-files.js';
import type { ModelFolder } from '../storage/model-folder.js';
import type { JsonObject } from '../storage/read-json.js';
import type { JobContext } from './job-context.js';
import { stateOwnDtype } from './name-variants.js';

/** The folder's JSON files as they fit the pruned model. */
export function mendDocuments(
  { documents, modelFile }: ModelFolder,
  { detected }: AnalysedModel,
  { model, modules }: Pick<PruneOutcome, 'model'> & { readonly modules: readonly ModuleCut[] },
): Record<string, JsonObject> {
  const kept = new Map(modules.map(({ module, keep }) => [module.index, keep]));
  const widths = blockWidths(detected.layout, kept);
  const external = planExternalFiles(model, modelFile);
  const externalFileCount = external.length;
  const config = documents['config.json'];
  const genai = documents['genai_config.json'];
  return {
    ...(config && {
      'config.json': stateOwnDtype(mendConfig(config, widths, { modelFile, externalFileCount }), {
        modelFile,
        external,
      }),
    }),
    ...(genai && { 'genai_config.json': mendGenaiConfig(genai, widths) }),
  };
}

/** SHA-256 of the files of a model that was written. */
export function hashSaved(
  { platform, signal }: JobContext,
  folder: string,
  { files }: Pick<SavedModel, 'files'>,
): Promise<string> {
  const paths = files.map(({ path }) => platform.files.resolve(folder, path));
  return hashFiles(platform, paths, signal);
}

/** Elements of all float weights. */
export function countParameters({ weights }: OnnxModel): number {
  return [...weights.values()]
    .filter(({ dataType }) => isFloatType(dataType))
    .reduce((sum, { dims }) => sum + dims.reduce((product, dim) => product * dim, 1), 0);
}
