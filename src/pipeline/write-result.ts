import { withoutFront } from '../graph/join-embedding.js';
import type { SinkFolder } from '../onnx/byte-source.js';
import { saveModel } from '../onnx/save-model.js';
import type { PruneOutcome } from '../prune/job.js';
import { pruneTwin } from '../removal/prune-twin.js';
import { plainSettings, type RunSettings } from '../report/plain-settings.js';
import type { CertificateReport, PruneReport, StatisticsReport } from '../report/report-schema.js';
import type { PairPlace } from '../storage/json-with-tensors.js';
import { type ModelFolder, modelPaths, totalBytes } from '../storage/model-folder.js';
import { WINDOWS_FILE } from '../storage/windows-file.js';
import { writeText } from '../storage/write-file.js';
import { type ReportPlace, writeReport } from '../storage/write-report.js';
import type { JobContext } from './job-context.js';
import type { PreparedJob } from './prepare-job.js';
import { countParameters, hashSaved, mendDocuments } from './result-facts.js';
import { keyAt } from './run-key.js';
import type { Stages } from './stages.js';
import { writeRecipe } from './write-recipe.js';

/** Where one result goes. */
export interface ResultPlaces {
  readonly sparsity: number;
  /** Folder to be made; absent for a dry run. */
  readonly out: string | undefined;
  /** Absent: no report is written. */
  readonly report: ReportPlace | undefined;
  /** Where the run's decisions go; absent: they are not written. */
  readonly recipe: PairPlace | undefined;
}

/** How a result is written, and what is said about it. */
export interface WriteRequest {
  readonly stages: Pick<Stages, 'pruneMeasured' | 'save' | 'certify' | 'report'>;
  readonly places: ResultPlaces;
  /** Which of several results, from 0. */
  readonly index: number;
  /** The dense model, as the user called it. */
  readonly model: string;
  /** Whether folders and files that exist are replaced. */
  readonly force: boolean;
  readonly quoteText: boolean;
  readonly certifies: boolean;
  /** What its report says of the run beside the pruning options. */
  readonly asked: Omit<RunSettings, 'calibration'>;
}

/** What a result was made from. */
export interface ResultSource extends PreparedJob {
  readonly folder: ModelFolder;
  /** Statistics that stood in for a look at the model. */
  readonly statistics?: StatisticsReport | undefined;
}

/** Save, certify, report; a dry run only counts the model's bytes. Nothing is left when it fails. */
export async function writeResult(
  context: JobContext,
  source: ResultSource,
  outcome: PruneOutcome,
  { places, index, stages, model: name, force, quoteText, certifies, asked }: WriteRequest,
): Promise<PruneReport> {
  const { platform, journal, run, remarks, onProgress, signal } = context;
  const { folder, job, calibration, settled, statistics } = source;
  const { out, report: place, sparsity } = places;
  const options = { ...job.options, sparsity };
  const settings = plainSettings(options, { calibration: settled, ...asked });
  const { files } = platform;
  const model = await pruneTwin(withoutFront(outcome.model), outcome, job.engine);
  const bytesBefore = await totalBytes(platform, modelPaths(folder, job.model));
  const isGone = outcome.modules.some(({ keep }) => keep.length === 0);
  const recipe = isGone ? undefined : places.recipe;
  if (places.recipe !== recipe)
    remarks.push('no recipe was written: a module is gone whole, which recipes cannot say yet');

  const reportOn = (bytesAfter: number, certificate?: CertificateReport) =>
    stages.report.run(context, {
      folder,
      engine: job.engine,
      model: name,
      out,
      options,
      settings,
      layout: job.analysed.detected.layout,
      outcome,
      parametersAfter: countParameters(model),
      bytes: { before: bytesBefore, after: bytesAfter },
      calibration: calibration?.provenance,
      windows: job.windows,
      statistics,
      certificate,
      quoteText,
    });
  const own = keyAt(platform, run, [sparsity]);
  const decided = { folder, job, outcome, settings, calibration: calibration?.provenance, run: own };
  const count = async () => {
    const { byteLength } = await saveModel(model, COUNTING_FOLDER, folder.modelFile, { onProgress, signal });
    await folder.checkUnchanged();
    if (recipe !== undefined) await writeRecipe(context, recipe, { ...decided, sha256: undefined });
    return reportOn(byteLength);
  };
  // All else is written before the folder has its name: a run that finds it there has nothing left to do.
  const fill = async (partial: string) => {
    const documents = mendDocuments(folder, job.analysed, outcome);
    const saved = await stages.save.run(context, { model, source: folder, documents, folder: partial });
    const checked = { ...job, folder, written: partial, change: outcome };
    const report = await reportOn(saved.byteLength, certifies ? await stages.certify.run(context, checked) : undefined);
    const { windowsFile } = calibration ?? {};
    if (windowsFile !== undefined) await writeText(files, files.resolve(partial, WINDOWS_FILE), windowsFile);
    if (place !== undefined && place.folder === undefined)
      await writeReport(files, report, { folder: partial, name: place.name });
    await folder.checkUnchanged();
    if (recipe !== undefined)
      await writeRecipe(context, recipe, { ...decided, sha256: await hashSaved(context, partial, saved) });
    await journal?.write(reportEntry(index), [report]);
    return report;
  };
  const request = out === undefined ? undefined : { output: out, source: folder.root, force, run: own };
  const report = await (request === undefined ? count() : files.buildFolder(request, fill));
  if (place?.folder !== undefined) await writeReport(files, report, { folder: place.folder, name: place.name });
  return report;
}

/** Name of the journal's entry for the report of a result that is about to have its name. */
export const reportEntry = (index: number): string => `report-${index}`;

/** Takes everything and keeps nothing: `saveModel` counts what it writes. */
const COUNTING_FOLDER: SinkFolder = {
  create: async () => ({ write: async () => undefined, close: async () => undefined }),
};
