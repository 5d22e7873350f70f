import type { HeldOutWindows } from '../evaluation/held-out-windows.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { planExternalFiles, type SavedModel } from '../onnx/save-model.js';
import type { FolderLayout, ResolvedQuantisation } from '../options/quantisation.js';
import type { PruneOutcome } from '../prune/job.js';
import { type TopActivations, topActivations } from '../prune/top-activations.js';
import { pruneNoPastBranch } from '../removal/prune-no-past-branch.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import { formatJson } from '../report/format-json.js';
import { plainSettings, type RunSettings } from '../report/plain-settings.js';
import type {
  DtypeReport,
  PruneReport,
  ResultVocabularyReport,
  SideFilesReport,
  SizeReport,
  StatisticsReport,
} from '../report/report-schema.js';
import type { PairPaths } from '../storage/json-with-tensors.js';
import { type ModelFolder, modelPaths, totalBytes } from '../storage/model-folder.js';
import type { JsonObject } from '../storage/read-json.js';
import { WINDOWS_FILE } from '../storage/windows-file.js';
import { writeText } from '../storage/write-file.js';
import { type ReportPath, writeReport } from '../storage/write-report.js';
import type { JobContext } from './job-context.js';
import { type DtypeFolder, dtypeFolders, layoutOf, writeDtypeConfig } from './name-variants.js';
import type { PreparedJob } from './prepare-job.js';
import type { QualityReference } from './quality-reference.js';
import { countParameters, hashSaved, reportSideFiles, updateDocuments } from './result-facts.js';
import { buildOutput } from './resumable-job.js';
import { keyAt } from './run-key.js';
import { type SavedFolder, VOCABULARY_FILE } from './stage-save.js';
import type { Stages } from './stages.js';
import { writeRecipe } from './write-recipe.js';
import { countBytes, makeVariants, reportVariant, type Variant, type VariantChecks } from './write-variants.js';

/** Paths of one result. */
export interface ResultPaths {
  readonly sparsity: number;
  /** Target bytes of `shrink`, from which the sparsity follows. */
  readonly targetBytes?: number | undefined;
  /** Output folder; absent for a dry run. */
  readonly out: string | undefined;
  /** Absent: no report is written. */
  readonly report: ReportPath | undefined;
  /** Path of the recipe; absent: none is written. */
  readonly recipe: PairPaths | undefined;
  /** Whether an equal run wrote the folder without a report, so that it is replaced. Default false. */
  readonly isRepeated?: boolean | undefined;
}

/** Target of a result: a sparsity or a size. */
export const targetOf = ({ sparsity, targetBytes }: Pick<ResultPaths, 'sparsity' | 'targetBytes'>): number =>
  targetBytes ?? sparsity;

/** Options of writing and reporting a result. */
export interface WriteRequest {
  readonly stages: Pick<Stages, 'pruneMeasured' | 'quantise' | 'save' | 'certify' | 'quality' | 'report'>;
  readonly paths: ResultPaths;
  /** Index of the result, from 0. */
  readonly index: number;
  /** The dense model as given. */
  readonly model: string;
  /** Whether existing files and folders are replaced. */
  readonly force: boolean;
  readonly quoteText: boolean;
  /** Whether saved reports contain absolute paths. */
  readonly reportPaths: boolean;
  readonly certifies: boolean;
  /** Dtype and form of the result. */
  readonly quantisation: ResolvedQuantisation;
  /** Settings of the run for its report, other than pruning options. */
  readonly runSettings: Omit<RunSettings, 'calibration'>;
  /** Result of the size search. */
  readonly size?: SizeReport | undefined;
}

/** Inputs of a result. */
export interface ResultSource extends PreparedJob {
  readonly folder: ModelFolder;
  /** Store of quantised weights until the result is saved. */
  readonly store: StoreTensor;
  /** Statistics used instead of measuring the model. */
  readonly statistics?: StatisticsReport | undefined;
  /** Held-out windows for checks. */
  readonly heldOut: () => Promise<HeldOutWindows>;
  /** Predictions of the dense model on them; absent: quality is not measured. */
  readonly reference?: QualityReference | undefined;
  /** Result of trimming the vocabulary; absent without trimming. */
  readonly vocabulary?: ResultVocabulary | undefined;
}

/** A vocabulary that was trimmed before pruning. */
export interface ResultVocabulary {
  readonly report: ResultVocabularyReport;
  /** Old ids by new ones. */
  readonly keep: Int32Array;
}

/**
 * Quantises, saves, certifies and reports; a dry run only counts bytes. After a failure no folder exists. With one
 * folder per dtype, the report of the first is returned, in a dry run with the sizes of all dtypes.
 */
export async function writeResult(
  context: JobContext,
  source: ResultSource,
  outcome: PruneOutcome,
  request: WriteRequest,
): Promise<PruneReport> {
  const { platform, journal, run, remarks } = context;
  const { files } = platform;
  const { folder } = source;
  const { paths: places, index, force, quantisation } = request;
  const { out, report: place } = places;
  const reason = explainMissingRecipe(source, outcome);
  const recipe = reason === undefined ? places.recipe : undefined;
  if (places.recipe !== recipe) remarks.push(`${NO_RECIPE}: ${reason}, which recipes do not support yet`);
  const layout = layoutOf(folder, quantisation.layout);
  // No key after stopped training, since complete training gives another result.
  const key = source.job.healing?.stop ? undefined : keyAt(platform, run, [targetOf(places)]);
  const topActivations = await measureTopActivations(context, source, outcome, request);
  const parts: PreparedFolder[] = [];
  const folders = dtypeFolders(layout, quantisation.dtypes);
  if (folders.length > 1)
    remarks.push(`each dtype has a folder of its own: ${folders.map(({ inside }) => inside).join(', ')}`);
  for (const { inside, dtypes } of folders) {
    const outside = inside === '' ? out : out && files.resolve(out, inside);
    const part = {
      ...request,
      topActivations,
      layout,
      inside,
      dtypes,
      run: key,
      recipe: parts.length === 0 ? recipe : undefined,
    };
    parts.push(await prepareFolder(context, source, outcome, { ...part, paths: { ...places, out: outside } }));
  }
  // Everything else is written before the folder is renamed: an existing folder means a finished run.
  const fill = async (partial: string) => {
    const reports: PruneReport[] = [];
    for (const part of parts) reports.push(await part.fill(partial));
    await journal?.write(reportEntry(index), [reports[0]]);
    await journal?.settle();
    return reports[0]!;
  };
  const count = async () => {
    const reports: PruneReport[] = [];
    for (const part of parts) reports.push(await part.count());
    const dtypes = reports.flatMap((one) => one.dtypes ?? []);
    return { ...reports[0]!, ...(dtypes.length > 0 && { dtypes }) };
  };
  const report = await (out === undefined
    ? count()
    : buildOutput(context, { out, source: folder, force: force || places.isRepeated, run: key }, fill));
  if (force && out !== undefined) {
    await journal?.write(replacedEntry(index), [true]);
    await journal?.settle();
  }
  await source.job.journal?.drop(`result-${index}`);
  const { reportPaths: paths } = request;
  if (place?.folder !== undefined) await writeReport(files, report, { folder: place.folder, name: place.name, paths });
  return report;
}

const NO_RECIPE = 'no recipe was written';

/** Whether a remark says that a result cannot have a recipe. */
export const saysNoRecipe = (remark: string): boolean => remark.startsWith(NO_RECIPE);

/** Reason why a result has no recipe; undefined if it has one. */
function explainMissingRecipe({ job }: ResultSource, { modules }: PruneOutcome): string | undefined {
  if (job.model.coded !== undefined) return 'the model has quantised weights';
  return modules.some(({ keep }) => keep.length === 0) ? 'an entire module was removed' : undefined;
}

/** Top activations of modules without function groups; undefined if no text is read or quoted. */
async function measureTopActivations(
  context: JobContext,
  { job, statistics }: ResultSource,
  { modules, dense }: PruneOutcome,
  { quoteText, paths }: WriteRequest,
): Promise<TopActivations | undefined> {
  const cuts = modules.filter(({ module, keep }) => keep.length < module.unitCount && !dense.functional.has(module));
  const isWanted = quoteText && paths.report !== undefined && statistics === undefined;
  if (!isWanted || cuts.length === 0 || job.windows.length === 0) return undefined;
  return context.timed('top-activations', () => topActivations(job, cuts));
}

/** One folder of a result. */
interface FolderRequest extends WriteRequest, DtypeFolder {
  readonly layout: FolderLayout;
  readonly recipe: PairPaths | undefined;
  readonly topActivations: TopActivations | undefined;
  /** See `FolderManifest`. */
  readonly run: string | undefined;
}

/** A folder to count or write. */
interface PreparedFolder {
  /** Counts its bytes without writing. */
  count(): Promise<PruneReport>;
  /** @param partial path of the folder under construction */
  fill(partial: string): Promise<PruneReport>;
}

async function prepareFolder(
  context: JobContext,
  source: ResultSource,
  outcome: PruneOutcome,
  request: FolderRequest,
): Promise<PreparedFolder> {
  const { platform } = context;
  const { folder, job, calibration, calibrationSettings, statistics, store } = source;
  const { stages, runSettings, quantisation, quoteText, layout, dtypes, inside, recipe, run, index } = request;
  const { out, report: place, sparsity } = request.paths;
  const options = { ...job.options, sparsity };
  const settings = plainSettings(options, { calibration: calibrationSettings, ...runSettings });
  const { files } = platform;
  const model = await pruneNoPastBranch(withoutEmbeddingPrefix(outcome.model), outcome, job.engine);
  const bytesBefore = await totalBytes(platform, modelPaths(folder, job.model));
  const coded = await makeVariants(context, stages, {
    folder,
    outcome,
    quantisation,
    layout,
    dtypes,
    job: { ...job, store, options, journal: job.journal?.within(`result-${index}`) },
  });
  const variants: readonly Variant[] = coded.length > 0 ? coded : [{ file: folder.modelFile, model, change: outcome }];

  interface Found extends VariantChecks {
    readonly sideFiles?: SideFilesReport;
  }
  const reportOn = (bytesAfter: number, dtypeReports: readonly DtypeReport[], found: Found = {}) =>
    stages.report.run(context, {
      folder,
      engine: job.engine,
      model: request.model,
      hub: folder.hub,
      out,
      options,
      settings,
      layout: job.analysed.detected.layout,
      outcome,
      orders: coded[0]?.written?.orders,
      parametersAfter: countParameters(model),
      bytes: { before: bytesBefore, after: bytesAfter },
      ...(dtypeReports.length > 0 && { dtypes: dtypeReports }),
      calibration: calibration?.provenance,
      windows: job.windows,
      topActivations: request.topActivations,
      statistics,
      size: request.size,
      vocabulary: source.vocabulary?.report,
      ...found,
      quoteText,
    });
  const recipeInput = { folder, job, outcome, settings, calibration: calibration?.provenance, run };
  return {
    async count() {
      const counted: Pick<SavedModel, 'byteLength'>[] = [];
      for (const variant of variants) counted.push(await countBytes(variant, folder));
      await folder.checkUnchanged();
      if (recipe !== undefined) await writeRecipe(context, recipe, { ...recipeInput, sha256: undefined });
      const dtypeReports = variants.flatMap((variant, at) => reportVariant(variant, counted[at]!, {}));
      return reportOn(counted[0]!.byteLength, dtypeReports);
    },
    async fill(partial) {
      const filled = files.resolve(partial, inside);
      const documents = documentsOf(source, outcome, { variants, layout });
      const dtypeReports: DtypeReport[] = [];
      const saved: SavedFolder[] = [];
      const checks: VariantChecks[] = [];
      for (const [at, variant] of variants.entries()) {
        const { file, storage, isSource, change, certified } = variant;
        const found = await stages.save.run(context, {
          model: variant.model,
          source: folder,
          folder: filled,
          file,
          documents: at === 0 ? documents : {},
          isFurther: at > 0,
          isSource,
          ...(storage && { layout: storage }),
        });
        const written = { ...job, folder, written: filled, file };
        const checked = { ...written, heldOut: source.heldOut, change, ...certified };
        const certificate = request.certifies ? await stages.certify.run(context, checked) : undefined;
        const { reference } = source;
        const quality = reference && (await stages.quality.run(context, { ...written, reference }));
        saved.push(found);
        checks.push({ certificate, quality });
        dtypeReports.push(...reportVariant(variant, found, { certificate, quality }));
      }
      const sideFiles = reportSideFiles(saved[0]!);
      const written = await reportOn(saved[0]!.byteLength, dtypeReports, { ...checks[0], sideFiles });
      const report = run === undefined ? written : { ...written, run };
      const { windowsFile } = calibration ?? {};
      if (windowsFile !== undefined) await writeText(files, files.resolve(filled, WINDOWS_FILE), windowsFile);
      if (place !== undefined && place.folder === undefined)
        await writeReport(files, report, { folder: filled, name: place.name, paths: request.reportPaths });
      await folder.checkUnchanged();
      if (recipe !== undefined)
        // A recipe produces the float model, whose hash differs from a quantised model's.
        await writeRecipe(context, recipe, {
          ...recipeInput,
          sha256: coded.length > 0 ? undefined : await hashSaved(context, filled, saved[0]!),
        });
      return report;
    },
  };
}

/** Journal entry with the report of a result before its folder is renamed. */
export const reportEntry = (index: number): string => `report-${index}`;

/** Journal entry of a result that was written with `force`, since an older result may have the same key. */
export const replacedEntry = (index: number): string => `replaced-${index}`;

/** The folder's JSON files, updated for the result. */
function documentsOf(
  { folder, job, vocabulary }: ResultSource,
  outcome: PruneOutcome,
  { variants, layout }: { readonly variants: readonly Variant[]; readonly layout: FolderLayout },
): Record<string, JsonObject | string> {
  const { modules } = outcome;
  const documents: Record<string, JsonObject | string> = {
    ...updateDocuments(folder, job.analysed, { model: variants[0]!.model, modules }),
    ...(vocabulary && { [VOCABULARY_FILE]: formatJson({ ...vocabulary.report, kept: [...vocabulary.keep] }) }),
  };
  const config = documents['config.json'];
  const written = variants.flatMap(({ dtype, file, model, storage: layout }) =>
    dtype === undefined
      ? []
      : [{ dtype, file, externalFileCount: planExternalFiles(model, file, { ...(layout && { layout }) }).length }],
  );
  if (layout === 'genai' || typeof config !== 'object' || written.length === 0) return documents;
  return { ...documents, 'config.json': writeDtypeConfig(config, written, folder.embeddings) };
}
