import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withoutFront } from '../graph/join-embedding.js';
import type { SinkFolder } from '../onnx/byte-source.js';
import { isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type SavedModel, saveModel } from '../onnx/save-model.js';
import type { PruneOutcome, StageTiming } from '../prune/job.js';
import type { DecidedRemoval } from '../removal/apply-removals.js';
import { blockWidths, mendConfig, mendGenaiConfig } from '../removal/mend-config.js';
import { pruneTwin } from '../removal/prune-twin.js';
import { buildRecipeParts } from '../report/build-recipe.js';
import { plainSettings, type RunSettings } from '../report/plain-settings.js';
import { buildPruneReport } from '../report/prune-report.js';
import { RECIPE_SCHEMA, type Recipe } from '../report/recipe-schema.js';
import type { CertificateReport, PruneReport } from '../report/report-schema.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { VERSION } from '../version.js';
import { certifyFolder } from './certify-folder.js';
import { writing } from './file-folder.js';
import { hashFiles } from './hash-files.js';
import { type PairPlace, writePair } from './json-with-tensors.js';
import { findTokenizer } from './load-tokenizer.js';
import { type ModelFolder, modelPaths } from './model-folder.js';
import { originOf } from './model-origin.js';
import type { FolderJob } from './open-prune-job.js';
import { peakMemoryBytes } from './peak-memory.js';
import type { JsonObject } from './read-json.js';
import { WINDOWS_FILE } from './windows-file.js';
import { writeModelFolder } from './write-model-folder.js';
import { describeEnvironment, type ReportPlace, writeReport } from './write-report.js';

/** Where the result of one run goes, and what is said about it. */
export interface ResultRequest extends Omit<RunSettings, 'calibration'> {
  /** As the user called it. */
  readonly model: string;
  readonly sparsity: number;
  /** Folder to be made; absent for a dry run. */
  readonly out: string | undefined;
  readonly force?: boolean | undefined;
  /** Absent: no report is written. */
  readonly report: ReportPlace | undefined;
  readonly quoteText?: boolean | undefined;
  readonly certify?: boolean | undefined;
  /** Where the run's decisions go; absent: they are not written. */
  readonly recipe?: PairPlace | undefined;
}

/** Writes the pruned model with its report; a dry run only counts the model's bytes. Nothing is left when it fails. */
export async function writeResult(
  { folder, job, calibration, settled, statistics, timings: before }: FolderJob,
  outcome: PruneOutcome,
  request: ResultRequest,
): Promise<PruneReport> {
  const { analysed, windows } = job;
  const options = { ...job.options, sparsity: request.sparsity };
  const { out, report: place, embeddings, executionProvider, statistics: source } = request;
  const settings = plainSettings(options, { calibration: settled, statistics: source, embeddings, executionProvider });
  const written = await pruneTwin(withoutFront(outcome.model), outcome.modules, job.engine);
  const timings: StageTiming[] = [...before, ...outcome.timings];
  const bytesBefore = await storedBytes(folder, job.model);
  const tokenizer = request.quoteText === false ? undefined : await findTokenizer(folder);
  const remarks = [...(calibration?.remarks ?? []), ...outcome.remarks];
  const isGone = outcome.modules.some(({ keep }) => keep.length === 0);
  if (request.recipe !== undefined && isGone)
    remarks.push('no recipe was written: a module is gone whole, which recipes cannot say yet');
  const buildReport = (bytesAfter: number, certificate?: CertificateReport): PruneReport =>
    buildPruneReport({
      version: VERSION,
      createdAt: new Date(),
      environment: describeEnvironment(job.engine),
      model: request.model,
      out,
      options,
      settings,
      layout: analysed.detected.layout,
      outcome: { ...outcome, remarks },
      parametersAfter: countParameters(written),
      bytes: { before: bytesBefore, after: bytesAfter },
      calibration: calibration?.provenance,
      windows,
      decode: tokenizer && ((tokens) => tokenizer.decode(tokens)),
      statistics,
      certificate,
      timings,
      peakMemoryBytes: peakMemoryBytes(),
    });
  const saveRecipe = async (sha256?: string): Promise<void> => {
    if (request.recipe === undefined || isGone) return;
    const { modules, tensors } = buildRecipeParts(outcome.modules);
    const recipe: Omit<Recipe, 'tensors'> = {
      schema: RECIPE_SCHEMA,
      version: VERSION,
      model: await originOf(folder, job.model, { layout: analysed.detected.layout, signal: options.signal }),
      method: options.methodName,
      seed: options.seed,
      settings,
      ...(calibration && { calibration: calibration.provenance }),
      ...(sha256 !== undefined && { result: { sha256 } }),
      modules,
    };
    await writePair(request.recipe, recipe, tensors);
  };
  const control = { onProgress: options.onProgress, signal: options.signal };
  if (out === undefined) {
    const report = buildReport((await saveModel(written, COUNTING_FOLDER, folder.modelFile, control)).byteLength);
    if (place?.folder !== undefined) await writeReport(report, place.folder, place.name);
    await saveRecipe();
    return report;
  }
  const certify = async (partial: string): Promise<CertificateReport | undefined> => {
    const { modules } = outcome;
    options.onProgress?.({ stage: 'certify', done: 0, total: 1 });
    const start = performance.now();
    const found = await certifyFolder({ ...job, folder, written: partial, modules, signal: options.signal });
    timings.push({ stage: 'certify', ms: performance.now() - start });
    remarks.push(...found.remarks);
    return found.certificate;
  };
  const startedAt = performance.now();
  let report: PruneReport | undefined;
  let resultSha256: string | undefined;
  const complete = async (partial: string, saved: SavedModel) => {
    const { byteLength } = saved;
    timings.push({ stage: 'save', ms: performance.now() - startedAt });
    report = buildReport(byteLength, request.certify === false ? undefined : await certify(partial));
    if (request.recipe !== undefined) resultSha256 = await hashSaved(partial, saved, options.signal);
    const { windowsFile } = calibration ?? {};
    if (windowsFile !== undefined) await putText(join(partial, WINDOWS_FILE), windowsFile);
    if (place !== undefined && place.folder === undefined) await writeReport(report, partial, place.name);
  };
  const documents = mendDocuments(folder, analysed, outcome);
  const { force } = request;
  await writeModelFolder(written, folder, { output: out, force, documents, complete, ...control });
  if (place?.folder !== undefined) await writeReport(report!, place.folder, place.name);
  await saveRecipe(resultSha256);
  return report!;
}

async function putText(target: string, text: string): Promise<void> {
  await writing(target, () => writeFile(target, text));
}

/** SHA-256 of the files of a model that was written. */
export function hashSaved(folder: string, { files }: SavedModel, signal?: AbortSignal): Promise<string> {
  return hashFiles(
    files.map(({ path }) => join(folder, path)),
    signal,
  );
}

/** Takes everything and keeps nothing: `saveModel` counts what it writes. */
const COUNTING_FOLDER: SinkFolder = {
  create: async () => ({ write: async () => undefined, close: async () => undefined }),
};

/** The folder's JSON files as they fit the pruned model. */
export function mendDocuments(
  { documents, modelFile }: ModelFolder,
  { detected }: AnalysedModel,
  { model, modules }: Pick<PruneOutcome, 'model'> & { readonly modules: readonly DecidedRemoval[] },
): Record<string, JsonObject> {
  const kept = new Map(modules.map(({ module, keep }) => [module.index, keep]));
  const widths = blockWidths(detected.layout, kept);
  const externalFileCount = model.storage?.kind === 'external' ? 1 : 0;
  const config = documents['config.json'];
  const genai = documents['genai_config.json'];
  return {
    ...(config && { 'config.json': mendConfig(config, widths, { modelFile, externalFileCount }) }),
    ...(genai && { 'genai_config.json': mendGenaiConfig(genai, widths) }),
  };
}

/** Bytes of the model file and its external data. */
export async function storedBytes(folder: ModelFolder, model: OnnxModel): Promise<number> {
  const sizes = await Promise.all(modelPaths(folder, model).map(async (file) => (await stat(file)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Elements of all float weights. */
export function countParameters({ weights }: OnnxModel): number {
  return [...weights.values()]
    .filter(({ dataType }) => isFloatType(dataType))
    .reduce((sum, { dims }) => sum + dims.reduce((product, dim) => product * dim, 1), 0);
}
