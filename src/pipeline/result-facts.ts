import { isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { planExternalFiles, type SavedModel } from '../onnx/save-model.js';
import { countPackedParameters } from '../operators/experts.js';
import type { PruneOutcome } from '../prune/job.js';
import type { ModuleCut } from '../removal/apply-change.js';
import { blockWidths, type ChangedWidths, updateConfig, updateGenaiConfig } from '../removal/update-config.js';
import type { SideFilesReport } from '../report/report-schema.js';
import { withoutPaths } from '../report/without-paths.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { hashFiles } from '../storage/hash-files.js';
import type { ModelFolder } from '../storage/model-folder.js';
import type { JsonObject } from '../storage/read-json.js';
import type { JobContext } from './job-context.js';
import { writeOwnDtype } from './name-variants.js';
import type { SavedFolder } from './stage-save.js';

/** The folder's JSON files, updated for the pruned model. */
export function updateDocuments(
  folder: ModelFolder,
  { detected }: AnalysedModel,
  { model, modules }: Pick<PruneOutcome, 'model'> & { readonly modules: readonly ModuleCut[] },
): Record<string, JsonObject> {
  const cuts = new Map(modules.map((cut) => [cut.module.index, cut]));
  const { layout } = detected;
  return documentsOf(folder, model, { before: blockWidths(layout, new Map()), after: blockWidths(layout, cuts) });
}

/** The folder's JSON files, updated for the given widths; without widths they are unchanged. */
export function documentsOf(
  { documents, modelFile }: ModelFolder,
  model: OnnxModel,
  widths: ChangedWidths = { before: [], after: [] },
): Record<string, JsonObject> {
  const external = planExternalFiles(model, modelFile);
  const externalFileCount = external.length;
  const config = documents['config.json'] && nameOrigin(documents['config.json']);
  const genai = documents['genai_config.json'];
  return {
    ...(config && {
      'config.json': writeOwnDtype(updateConfig(config, widths, { modelFile, externalFileCount }), {
        modelFile,
        external,
      }),
    }),
    ...(genai && { 'genai_config.json': updateGenaiConfig(genai, widths.after) }),
  };
}

/** Shortens the exporter's local path in config.json, which no runtime reads. */
function nameOrigin(config: JsonObject): JsonObject {
  const { _name_or_path: origin } = config;
  return typeof origin === 'string' ? { ...config, _name_or_path: withoutPaths(origin) } : config;
}

/** SHA-256 of a written model's files. */
export function hashSaved(
  { platform, signal }: JobContext,
  folder: string,
  { files }: Pick<SavedModel, 'files'>,
): Promise<string> {
  const paths = files.map(({ path }) => platform.files.resolve(folder, path));
  return hashFiles(platform, paths, signal);
}

/** Largest number of names of uncopied files in a report. */
const MAX_LEFT = 50;

/** Report of the files next to a model. */
export function reportSideFiles({ copied, leftOut, outside }: SavedFolder): SideFilesReport {
  const left = [...leftOut, ...outside];
  return { copied, leftCount: left.length, left: left.slice(0, MAX_LEFT) };
}

/** Number of weights: elements of float tensors, and codes of packed experts. */
export function countParameters({ proto, weights }: OnnxModel): number {
  const packed = countPackedParameters(proto.graph?.node ?? []);
  return [...weights].reduce((sum, [name, { dataType, dims }]) => {
    const weight = packed.get(name) ?? (isFloatType(dataType) ? 1 : 0);
    return sum + weight * dims.reduce((product, dim) => product * dim, 1);
  }, 0);
}
