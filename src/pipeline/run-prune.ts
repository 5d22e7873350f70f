import { LADDER, PRUNE } from '../options/commands.js';
import { checkOptions, rowsOf } from '../options/option.js';
import { learnsRounding } from '../options/quantisation.js';
import { resolveRequest } from '../options/request.js';
import type { Platform } from '../platform/platform.js';
import type { MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { buildLadder } from '../report/build-ladder.js';
import type { PruneReport } from '../report/report-schema.js';
import { resolvePair } from '../storage/json-with-tensors.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { resolveReportPlace, writeReport } from '../storage/write-report.js';
import { checkPlaces, checkRoom } from './check-places.js';
import { prepareTexts } from './evaluate/text-evaluation.js';
import { type JobContext, withJob, withPart } from './job-context.js';
import { nameRungs, type Rung, rungFolder, rungRecipe, rungReportPlace } from './ladder-rungs.js';
import { prepareJob } from './prepare-job.js';
import type { LadderRequest, PruneRequest } from './prune-request.js';
import type { PruneInput } from './stages/prune-measured.js';
import { resolveStages } from './stages.js';
import { type ResultPlaces, type ResultSource, type WriteRequest, writeResult } from './write-result.js';

/** Prunes a model folder at one sparsity. */
export async function runPrune(platform: Platform, request: PruneRequest): Promise<PruneReport> {
  checkOptions(request, rowsOf(PRUNE));
  const { files } = platform;
  const { sparsity, out, dryRun, recipe } = request;
  const result: ResultPlaces = {
    sparsity,
    out: dryRun ? undefined : out,
    report: resolveReportPlace(files, request.report),
    recipe: recipe === undefined ? undefined : resolvePair(files, 'recipe', recipe),
  };
  const reports = await pruneTo(platform, request, [result]);
  if (request.evaluation !== undefined) await rewriteReports(platform, reports, [result]);
  return reports[0]!;
}

/** Prunes a model folder at several sparsities from one look at the dense model. */
export async function runLadder(platform: Platform, request: LadderRequest): Promise<readonly PruneReport[]> {
  checkOptions(request, rowsOf(LADDER));
  const { files } = platform;
  const rungs = nameRungs(request.sparsity);
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

/** Open, load, analyse, calibrate, measure the dense model once or load its statistics; then result by result; evaluate. */
async function pruneTo(
  platform: Platform,
  request: PruneRequest | LadderRequest,
  results: readonly ResultPlaces[],
): Promise<readonly PruneReport[]> {
  const { options, quantisation, calibration } = resolveRequest(request);
  const { model, embeddings, force = false, evaluation, hiddenStates, executionProvider, threads, engine } = request;
  const { statistics } = request;
  const place = statistics === undefined ? undefined : resolvePair(platform.files, 'statistics', statistics);
  const { dtypes: dtype, ...form } = quantisation;
  const asked = { statistics, embeddings, executionProvider, threads, ...(dtype.length > 0 && { dtype, ...form }) };
  const { quoteText = true, certify: certifies = true } = request;
  const stages = resolveStages(request.stages);
  const resultCount = results.length;
  return withJob(platform, options, async (context) => {
    const folder = await stages.open.run(context, { model, embeddings });
    await checkPlaces(folder, results, { force, calibration: place === undefined ? calibration : undefined });
    const texts = evaluation && (await prepareTexts(evaluation, folder));
    const made = await withPart(context, async (part) => {
      const { job, ...prepared } = await prepareJob(part, {
        stages,
        folder,
        options,
        calibration: place === undefined ? calibration : undefined,
        readsTokens: learnsRounding(quantisation),
        hiddenStates,
        engine: { executionProvider, threads, engine },
        sparsities: results.map(({ sparsity }) => sparsity),
        checkRoom: (denseBytes) => checkRoom(folder, results, { force, denseBytes }),
      });
      const seen: SeenModel =
        place !== undefined
          ? await stages.loadStatistics.run(part, { place, folder, job, resultCount })
          : { ...prepared, measured: await stages.measureDense.run(part, { job, resultCount }) };
      if (seen.measured !== undefined) part.onEnd(seen.measured.dispose);
      const windows = seen.calibration?.windows ?? job.windows;
      const source = { folder, ...seen, job: { ...job, windows } };
      const reports: PruneReport[] = [];
      for (const [index, places] of results.entries()) {
        const written = { stages, model, force, quoteText, certifies, asked, quantisation, places, index, resultCount };
        reports.push(await withPart(part, (own) => makeResult(own, source, written)));
      }
      return { reports, engine: job.engine };
    });
    if (texts === undefined) return made.reports;
    return stages.evaluate.run(context, { ...made, folder, texts });
  });
}

/** What is known of the dense model. */
interface SeenModel extends Pick<ResultSource, 'calibration' | 'settled' | 'statistics'> {
  readonly measured: MeasuredModel | undefined;
}

/** Prune, save, certify, report. What was rewritten is kept in scratch space until it is saved. */
function makeResult(
  context: JobContext,
  { measured, ...source }: Omit<ResultSource, 'store'> & SeenModel,
  { index, resultCount, ...written }: WriteRequest & Pick<PruneInput, 'index' | 'resultCount'>,
): Promise<PruneReport> {
  const { stages, places } = written;
  const { sparsity } = places;
  return withScratchWeights(context.platform, async (store) => {
    const input = { job: source.job, measured, sparsity, store, index, resultCount };
    const outcome = await stages.pruneMeasured.run(context, input);
    context.timings.push(...outcome.timings);
    context.remarks.push(...outcome.remarks);
    return writeResult(context, { ...source, store }, outcome, written);
  });
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
