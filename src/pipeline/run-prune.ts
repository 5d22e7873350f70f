import type { Platform } from '../platform/platform.js';
import type { MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { buildLadder } from '../report/build-ladder.js';
import type { PruneReport } from '../report/report-schema.js';
import { checkPairPlace, type PairPlace, resolvePair } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { withTensorStore } from '../storage/tensor-store.js';
import { checkWindowsPlace } from '../storage/windows-file.js';
import { resolveReportPlace, writeReport } from '../storage/write-report.js';
import { prepareTexts } from './evaluate/text-evaluation.js';
import { type JobContext, withJob, withPart } from './job-context.js';
import { nameRungs, type Rung, rungFolder, rungRecipe, rungReportPlace } from './ladder-rungs.js';
import { planPrune } from './plan-prune.js';
import { type PreparedJob, prepareJob } from './prepare-job.js';
import type { LadderRequest, PruneRequest } from './prune-request.js';
import { STAGES, type Stages } from './stages.js';
import { type ResultOptions, type ResultPlaces, type ResultSource, writeResult } from './write-result.js';

/** Prunes a model folder at one sparsity. */
export async function runPrune(platform: Platform, request: PruneRequest): Promise<PruneReport> {
  const { files } = platform;
  const { sparsity, ...shared } = request;
  const { out, dryRun, recipe } = shared;
  const result: ResultPlaces = {
    sparsity,
    out: dryRun ? undefined : out,
    report: resolveReportPlace(files, request.report),
    recipe: recipe === undefined ? undefined : resolvePair(files, 'recipe', recipe),
  };
  const reports = await pruneTo(platform, shared, [result]);
  if (request.evaluation !== undefined) await rewriteReports(platform, reports, [result]);
  return reports[0]!;
}

/** Prunes a model folder at several sparsities from one look at the dense model. */
export async function runLadder(
  platform: Platform,
  { sparsity, ...request }: LadderRequest,
): Promise<readonly PruneReport[]> {
  const { files } = platform;
  const rungs = nameRungs(sparsity);
  const place = resolveReportPlace(files, request.report);
  const { out, dryRun, recipe } = request;
  const toResult = (rung: Rung): ResultPlaces => ({
    sparsity: rung.sparsity,
    out: dryRun || out === undefined ? undefined : rungFolder(out, rung),
    report: rungReportPlace(place, rung),
    recipe: recipe === undefined ? undefined : resolvePair(files, 'recipe', rungRecipe(recipe, rung)),
  });
  const results = rungs.map(toResult);
  const pruned = await pruneTo(platform, request, results);
  const ladder = buildLadder(pruned);
  const reports = pruned.map((report) => ({ ...report, ladder }));
  await rewriteReports(platform, reports, results);
  return reports;
}

/** Open, load, analyse, calibrate, look at the dense model once; then for each result prune, save, certify, report. */
async function pruneTo(
  platform: Platform,
  request: Omit<PruneRequest, 'sparsity'>,
  results: readonly ResultPlaces[],
): Promise<readonly PruneReport[]> {
  const { options, calibration, statistics } = planPrune(platform.files, request, results);
  const { model, embeddings, force = false, evaluation, hiddenStates, executionProvider, engine } = request;
  const { quoteText = true, certify: certifies = true } = request;
  const stages: Stages = { ...STAGES, ...request.stages };
  return withJob(platform, options, async (context) => {
    const folder = await stages.open.run(context, { model, embeddings });
    await checkPlaces(platform, folder, { results, force, windowsFile: calibration.generate?.file });
    const texts = evaluation && (await prepareTexts(evaluation, folder));
    const { reports, job } = await withPart(context, async (part) => {
      const prepared = await prepareJob(part, {
        stages,
        folder,
        options,
        calibration: statistics === undefined ? calibration : undefined,
        hiddenStates,
        engine: { executionProvider, engine },
        sparsities: results.map(({ sparsity }) => sparsity),
      });
      const look = { stages, folder, prepared, statistics, resultCount: results.length };
      const seen = await lookAtDense(part, look);
      const written = { stages, model, force, quoteText, certifies };
      return { reports: await makeResults(part, seen, { ...written, results }), job: prepared.job };
    });
    return texts === undefined ? reports : stages.evaluate.run(context, { engine: job.engine, folder, texts, reports });
  });
}

/** A model that was looked at, or several shots will each look at themselves. */
interface SeenModel extends ResultSource {
  readonly measured: MeasuredModel | undefined;
}

interface Look {
  readonly stages: Pick<Stages, 'measureDense' | 'loadStatistics'>;
  readonly folder: ModelFolder;
  readonly prepared: PreparedJob;
  readonly statistics: PairPlace | undefined;
  readonly resultCount: number;
}

async function lookAtDense(
  context: JobContext,
  { stages, folder, prepared, statistics: place, resultCount }: Look,
): Promise<SeenModel> {
  const { job } = prepared;
  if (place !== undefined) {
    const { measured, calibration, statistics } = await stages.loadStatistics.run(context, {
      place,
      folder,
      job,
      resultCount,
    });
    context.onEnd(measured.dispose);
    return { folder, job: { ...job, windows: calibration.windows }, calibration, statistics, measured };
  }
  const measured = job.options.shots > 1 ? undefined : await stages.measureDense.run(context, { job, resultCount });
  if (measured !== undefined) context.onEnd(measured.dispose);
  return { ...prepared, folder, statistics: undefined, measured };
}

interface Results extends ResultOptions {
  readonly stages: Stages;
  readonly results: readonly ResultPlaces[];
}

/** One after the other, so that no two are in memory together. */
async function makeResults(
  context: JobContext,
  { measured, ...source }: SeenModel,
  { results, ...written }: Results,
): Promise<readonly PruneReport[]> {
  const { job } = source;
  const reports: PruneReport[] = [];
  for (const [index, places] of results.entries()) {
    const { sparsity } = places;
    const make = (part: JobContext) =>
      withTensorStore(context.platform, async (store) => {
        const input = { job, measured, sparsity, store, index, resultCount: results.length };
        const outcome = await written.stages.pruneMeasured.run(part, input);
        part.timings.push(...outcome.timings);
        part.remarks.push(...outcome.remarks);
        return writeResult(part, source, outcome, { ...written, places });
      });
    reports.push(await withPart(context, make));
  }
  return reports;
}

interface Places {
  readonly results: readonly ResultPlaces[];
  readonly force: boolean;
  readonly windowsFile: string | undefined;
}

/** Asks before hours of work whether the results can be written. @throws OptionError */
async function checkPlaces(
  { files }: Platform,
  { root }: ModelFolder,
  { results, force, windowsFile }: Places,
): Promise<void> {
  for (const { out, recipe } of results) {
    if (recipe !== undefined) await checkPairPlace(files, recipe, { out, force });
    if (out === undefined) continue;
    await files.checkOutput({ output: out, source: root, force });
    if (windowsFile !== undefined) await checkWindowsPlace(files, windowsFile, out);
  }
}

/** Writes reports again that have grown since. */
async function rewriteReports(
  { files }: Platform,
  reports: readonly PruneReport[],
  places: readonly Pick<ResultPlaces, 'report' | 'out'>[],
): Promise<void> {
  for (const [at, { report: place, out }] of places.entries()) {
    const folder = place?.folder ?? (out && files.resolve(out));
    if (place !== undefined && folder !== undefined)
      await writeReport(files, reports[at]!, { folder, name: place.name });
  }
}
