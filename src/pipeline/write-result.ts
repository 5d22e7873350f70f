import type { HeldOutWindows } from '../evaluation/held-out-windows.js';
import { withoutEmbeddingPrefix } from '../graph/join-embedding.js';
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
import type { PairPlace } from '../storage/json-with-tensors.js';
import { type ModelFolder, modelPaths, totalBytes } from '../storage/model-folder.js';
import type { JsonObject } from '../storage/read-json.js';
import { WINDOWS_FILE } from '../storage/windows-file.js';
import { writeText } from '../storage/write-file.js';
import { type ReportPlace, writeReport } from '../storage/write-report.js';
import { VOCABULARY_FILE } from './apply-trimming.js';
import type { JobContext } from './job-context.js';
import { type DtypeFolder, dtypeFolders, layoutOf, writeDtypeConfig } from './name-variants.js';
import type { PreparedJob } from './prepare-job.js';
import type { QualityReference } from './quality-reference.js';
import { countParameters, hashSaved, mendDocuments, reportSideFiles } from './result-facts.js';
import { buildOutput } from './resumable-job.js';
import { keyAt } from './run-key.js';
import type { SavedFolder } from './stages/save.js';
import type { Stages } from './stages.js';
import { writeRecipe } from './write-recipe.js';
import { countBytes, makeVariants, reportVariant, type Variant, type VariantChecks } from './write-variants.js';

/** Where one result goes. */
export interface ResultPlaces {
  readonly sparsity: number;
  /** Bytes that it may take, where those were asked for; its sparsity follows. */
  readonly targetBytes?: number | undefined;
  /** Folder to be made; absent for a dry run. */
  readonly out: string | undefined;
  /** Absent: no report is written. */
  readonly report: ReportPlace | undefined;
  /** Where the run's decisions go; absent: they are not written. */
  readonly recipe: PairPlace | undefined;
  /** Whether an equal run made the folder before, without a report: it is replaced. Default false. */
  readonly isRepeated?: boolean | undefined;
}

/** The value that distinguishes results of a run: a sparsity, or a size. */
export const amountOf = ({ sparsity, targetBytes }: Pick<ResultPlaces, 'sparsity' | 'targetBytes'>): number =>
  targetBytes ?? sparsity;

/** How a result is written, and what is said about it. */
export interface WriteRequest {
  readonly stages: Pick<Stages, 'pruneMeasured' | 'quantise' | 'save' | 'certify' | 'quality' | 'report'>;
  readonly places: ResultPlaces;
  /** Which of several results, from 0. */
  readonly index: number;
  /** The dense model, as the user called it. */
  readonly model: string;
  /** Whether folders and files that exist are replaced. */
  readonly force: boolean;
  readonly quoteText: boolean;
  /** Whether saved reports hold absolute paths. */
  readonly reportPaths: boolean;
  readonly certifies: boolean;
  /** Dtype and form of the result. */
  readonly quantisation: ResolvedQuantisation;
  /** Settings of the run for its report, besides the pruning options. */
  readonly asked: Omit<RunSettings, 'calibration'>;
  /** How a size was met. */
  readonly size?: SizeReport | undefined;
}

/** Inputs of a result. */
export interface ResultSource extends PreparedJob {
  readonly folder: ModelFolder;
  /** Store of codes until the result is saved. */
  readonly store: StoreTensor;
  /** Statistics that replaced measuring the model. */
  readonly statistics?: StatisticsReport | undefined;
  /** Windows to check results on. */
  readonly heldOut: () => Promise<HeldOutWindows>;
  /** Predictions of the dense model on them; absent: results are not compared with it. */
  readonly reference?: QualityReference | undefined;
  /** How the vocabulary was trimmed; absent: it is whole. */
  readonly vocabulary?: ResultVocabulary | undefined;
}

/** A vocabulary that was trimmed before all else. */
export interface ResultVocabulary {
  readonly report: ResultVocabularyReport;
  /** Old ids by new ones. */
  readonly keep: Int32Array;
}

/**
 * Quantise, save, certify, report; a dry run only counts the model's bytes. A failure leaves no folder. With a folder for each
 * dtype, the first one's report is returned.
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
  const { places, index, force, quantisation } = request;
  const { out, report: place } = places;
  const unsaid = explainMissingRecipe(source, outcome);
  const recipe = unsaid === undefined ? places.recipe : undefined;
  if (places.recipe !== recipe) remarks.push(`no recipe was written: ${unsaid}, which recipes cannot say yet`);
  const layout = layoutOf(folder, quantisation.layout);
  // A run with this key that trains to the end makes another result.
  const own = outcome.healing?.stopped ? undefined : keyAt(platform, run, [amountOf(places)]);
  const topActivations = await measureTopActivations(context, source, outcome, request);
  const parts: PreparedFolder[] = [];
  for (const { inside, dtypes } of dtypeFolders(layout, quantisation.dtypes)) {
    const outside = inside === '' ? out : out && files.resolve(out, inside);
    const part = {
      ...request,
      topActivations,
      layout,
      inside,
      dtypes,
      run: own,
      recipe: parts.length === 0 ? recipe : undefined,
    };
    parts.push(await prepareFolder(context, source, outcome, { ...part, places: { ...places, out: outside } }));
  }
  // All else is written before the folder is renamed: a run that finds it there is done.
  const fill = async (partial: string) => {
    const reports: PruneReport[] = [];
    for (const part of parts) reports.push(await part.fill(partial));
    await journal?.write(reportEntry(index), [reports[0]]);
    await journal?.settle();
    return reports[0]!;
  };
  const report = await (out === undefined
    ? parts[0]!.count()
    : buildOutput(context, { out, source: folder, force: force || places.isRepeated, run: own }, fill));
  await source.job.journal?.drop(`result-${index}`);
  const { reportPaths: paths } = request;
  if (place?.folder !== undefined) await writeReport(files, report, { folder: place.folder, name: place.name, paths });
  return report;
}

/** The reason why a result has no recipe; undefined where it has one. */
function explainMissingRecipe({ job }: ResultSource, { modules }: PruneOutcome): string | undefined {
  if (job.model.coded !== undefined) return 'the model holds quantised weights';
  return modules.some(({ keep }) => keep.length === 0) ? 'a module is gone whole' : undefined;
}

/** Activating tokens of modules without function groups; nothing where no text is read, or none is quoted. */
async function measureTopActivations(
  context: JobContext,
  { job, statistics }: ResultSource,
  { modules, dense }: PruneOutcome,
  { quoteText, places }: WriteRequest,
): Promise<TopActivations | undefined> {
  const cuts = modules.filter(({ module, keep }) => keep.length < module.unitCount && !dense.functional.has(module));
  const isWanted = quoteText && places.report !== undefined && statistics === undefined;
  if (!isWanted || cuts.length === 0 || job.windows.length === 0) return undefined;
  return context.timed('top-activations', () => topActivations(job, cuts));
}

/** One folder of a result. */
interface FolderRequest extends WriteRequest, DtypeFolder {
  readonly layout: FolderLayout;
  readonly recipe: PairPlace | undefined;
  readonly topActivations: TopActivations | undefined;
  /** See `FolderManifest`. */
  readonly run: string | undefined;
}

/** A folder that is ready to be counted or written. */
interface PreparedFolder {
  /** Only counts the bytes that it would take. */
  count(): Promise<PruneReport>;
  /** @param partial the result's own folder while it is being made */
  fill(partial: string): Promise<PruneReport>;
}

async function prepareFolder(
  context: JobContext,
  source: ResultSource,
  outcome: PruneOutcome,
  request: FolderRequest,
): Promise<PreparedFolder> {
  const { platform } = context;
  const { folder, job, calibration, settled, statistics, store } = source;
  const { stages, asked, quantisation, quoteText, layout, dtypes, inside, recipe, run, index } = request;
  const { out, report: place, sparsity } = request.places;
  const options = { ...job.options, sparsity };
  const settings = plainSettings(options, { calibration: settled, ...asked });
  const { files } = platform;
  const model = await pruneNoPastBranch(withoutEmbeddingPrefix(outcome.model), outcome, job.engine);
  const bytesBefore = await totalBytes(platform, modelPaths(folder, job.model));
  const made = await makeVariants(context, stages, {
    folder,
    outcome,
    quantisation,
    layout,
    dtypes,
    job: { ...job, store, options, journal: job.journal?.within(`result-${index}`) },
  });
  const variants: readonly Variant[] = made.length > 0 ? made : [{ file: folder.modelFile, model, change: outcome }];

  interface Found extends VariantChecks {
    readonly sideFiles?: SideFilesReport;
  }
  const reportOn = (bytesAfter: number, said: readonly DtypeReport[], found: Found = {}) =>
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
      orders: made[0]?.written?.orders,
      parametersAfter: countParameters(model),
      bytes: { before: bytesBefore, after: bytesAfter },
      ...(said.length > 0 && { dtypes: said }),
      calibration: calibration?.provenance,
      windows: job.windows,
      topActivations: request.topActivations,
      statistics,
      size: request.size,
      vocabulary: source.vocabulary?.report,
      ...found,
      quoteText,
    });
  const decided = { folder, job, outcome, settings, calibration: calibration?.provenance, run };
  return {
    async count() {
      const counted: Pick<SavedModel, 'byteLength'>[] = [];
      for (const variant of variants) counted.push(await countBytes(variant, folder));
      await folder.checkUnchanged();
      if (recipe !== undefined) await writeRecipe(context, recipe, { ...decided, sha256: undefined });
      const said = variants.flatMap((variant, at) => reportVariant(variant, counted[at]!, {}));
      return reportOn(counted[0]!.byteLength, said);
    },
    async fill(partial) {
      const filled = files.resolve(partial, inside);
      const documents = documentsOf(source, outcome, { variants, layout });
      const said: DtypeReport[] = [];
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
        said.push(...reportVariant(variant, found, { certificate, quality }));
      }
      const sideFiles = reportSideFiles(saved[0]!);
      const report = await reportOn(saved[0]!.byteLength, said, { ...checks[0], sideFiles });
      const { windowsFile } = calibration ?? {};
      if (windowsFile !== undefined) await writeText(files, files.resolve(filled, WINDOWS_FILE), windowsFile);
      if (place !== undefined && place.folder === undefined)
        await writeReport(files, report, { folder: filled, name: place.name, paths: request.reportPaths });
      await folder.checkUnchanged();
      if (recipe !== undefined)
        // A recipe makes the float model: there is nothing to compare a quantised one with.
        await writeRecipe(context, recipe, {
          ...decided,
          sha256: made.length > 0 ? undefined : await hashSaved(context, filled, saved[0]!),
        });
      return report;
    },
  };
}

/** Name of the journal's entry for the report of a result that is about to have its name. */
export const reportEntry = (index: number): string => `report-${index}`;

/** The folder's JSON files as they fit what is written. */
function documentsOf(
  { folder, job, vocabulary }: ResultSource,
  outcome: PruneOutcome,
  { variants, layout }: { readonly variants: readonly Variant[]; readonly layout: FolderLayout },
): Record<string, JsonObject | string> {
  const { modules } = outcome;
  const documents: Record<string, JsonObject | string> = {
    ...mendDocuments(folder, job.analysed, { model: variants[0]!.model, modules }),
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
