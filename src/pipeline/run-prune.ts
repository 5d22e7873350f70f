import { LADDER, PRUNE } from '../options/commands.js';
import { healingCalibration } from '../options/healing.js';
import { fractionOf } from '../options/kinds.js';
import { checkOptions, rowsOf } from '../options/option.js';
import { learnsRounding, type ResolvedQuantisation } from '../options/quantisation.js';
import { type ResolvedRequest, resolveRequest } from '../options/request.js';
import type { ResolvedShrink } from '../options/shrink.js';
import { TEXT_EVALUATION, type TextEvaluation } from '../options/texts.js';
import type { Platform } from '../platform/platform.js';
import type { MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { remarkFewTokens } from '../prune/remark-few-tokens.js';
import { buildLadder } from '../report/build-ladder.js';
import type { PruneReport } from '../report/report-schema.js';
import { type PairPlace, resolvePair } from '../storage/json-with-tensors.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { resolveReportPlace, writeReport } from '../storage/write-report.js';
import { checkCalibrationFiles, checkPlaces, checkRoom } from './check-places.js';
import { checkSizes, prepareSizes } from './choose-size.js';
import { assumedSpeed, estimateCost, expectedWindowLength, modelSize } from './estimate-cost.js';
import { estimateScratch } from './estimate-room.js';
import { countTokens, prepareTexts, tokensMeasured } from './evaluate/text-evaluation.js';
import { holdWindowsOut } from './held-out.js';
import { type JobContext, withJob, withPart } from './job-context.js';
import { mayBeKept, readFinished, withJournal } from './kept-run.js';
import { nameRungs, type Rung, rungFolder, rungRecipe, rungReportPlace } from './ladder-rungs.js';
import { dtypeFolders, layoutOf } from './name-variants.js';
import { createStoreIn, type JobRequest, prepareJob } from './prepare-job.js';
import type { LadderRequest, PruneRequest } from './prune-request.js';
import { createQualityReference } from './quality-reference.js';
import { runKey } from './run-key.js';
import type { PruneInput } from './stages/prune-measured.js';
import { resolveStages, type Stages } from './stages.js';
import { amountOf, type ResultPlaces, type ResultSource, type WriteRequest, writeResult } from './write-result.js';

/** Prunes a model folder at one sparsity. */
export async function runPrune(platform: Platform, request: PruneRequest): Promise<PruneReport> {
  checkOptions(request, rowsOf(PRUNE));
  const { files } = platform;
  const results = resultPlaces(files, { ...request, sparsity: [request.sparsity] }, false);
  const finish = async (reports: readonly PruneReport[]) => {
    if (typeof request.evaluation === 'object') await rewriteReports(platform, reports, { ...request, results });
    return reports;
  };
  const [report] = await pruneTo(platform, request, { results, finish });
  return report!;
}

/** Prunes a model folder at several sparsities from one look at the dense model. */
export async function runLadder(platform: Platform, request: LadderRequest): Promise<readonly PruneReport[]> {
  checkOptions(request, rowsOf(LADDER));
  const { files } = platform;
  const results = resultPlaces(files, request, true);
  return pruneTo(platform, request, {
    results,
    async finish(pruned) {
      const ladder = buildLadder(pruned);
      const reports = pruned.map((report) => ({ ...report, ladder }));
      await rewriteReports(platform, reports, { ...request, results });
      return reports;
    },
  });
}

/** Where results go: a ladder's each to a place of its own, an only one to what was named. */
export function resultPlaces(
  files: Platform['files'],
  { sparsity, out, dryRun, recipe, report }: LadderRequest,
  isLadder: boolean,
): readonly ResultPlaces[] {
  const place = resolveReportPlace(files, report);
  const toPlaces = (rung: Rung): ResultPlaces => {
    const folder = out === undefined || !isLadder ? out : rungFolder(out, rung);
    const decided = recipe === undefined || !isLadder ? recipe : rungRecipe(recipe, rung);
    return {
      sparsity: rung.sparsity,
      out: dryRun ? undefined : folder,
      report: isLadder ? rungReportPlace(place, rung) : place,
      recipe: decided === undefined ? undefined : resolvePair(files, 'recipe', decided),
    };
  };
  const fractions = sparsity.map(fractionOf);
  return isLadder ? nameRungs(fractions).map(toPlaces) : fractions.map((one) => toPlaces({ sparsity: one, name: '' }));
}

/** What a run is to come to. */
export interface PruneTarget {
  readonly results: readonly ResultPlaces[];
  /** Sizes that results are to meet, in place of sparsities. */
  readonly shrink?: ResolvedShrink | undefined;
  /** Done while nobody else may write there. */
  readonly finish: (reports: readonly PruneReport[]) => Promise<readonly PruneReport[]>;
}

/** Open; make what a run that was cut off has not made; evaluate. */
export function pruneTo(
  platform: Platform,
  request: PruneRequest | LadderRequest,
  { results, shrink, finish }: PruneTarget,
): Promise<readonly PruneReport[]> {
  const resolved = resolveRequest(request);
  const { options, quantisation, calibration: healingAs } = resolved;
  return withJob(platform, options, async (whole) => {
    const run = await openRun(whole, request, { ...resolved, results });
    const { stages, folder, floats, engine, place, texts, checks } = run;
    const { resume = true, force = false, evaluation } = request;
    const sparsities = results.map(amountOf);
    const { prompts = [], newTokens = TEXT_EVALUATION.newTokens.default } =
      typeof evaluation === 'object' ? evaluation : ({} as TextEvaluation);
    return withJournal(whole, { ...run, sparsities, resume }, async (context, resuming) => {
      const finished =
        resuming || (resume && !force)
          ? await readFinished(context, results, { inside: run.inside, model: request.model, certify: request.certify })
          : new Map();
      const open = results.filter((_, index) => !finished.has(index));
      // Another run may have made them since.
      await checkPlaces(folder, open, { ...checks, resuming });
      const making: Making = {
        ...{ request, stages, folder, floats, engine, place, results, finished, quantisation, healingAs, shrink },
        options: { ...options, onProgress: context.onProgress, ...(shrink && { sparsity: 0 }) },
        calibration: checks.calibration,
        onAnalysed: (analysed) =>
          context.expect(
            estimateCost({
              ...{ options, quantisation, calibration: healingAs, size: modelSize(analysed) },
              windowLength: expectedWindowLength(healingAs, folder, analysed),
              resultCount: open.length,
              draftCount: shrink && DRAFTS_PER_SIZE,
              evaluated: {
                modelCount: 1 + results.length,
                tokenCount: countTokens(texts),
                newTokens: prompts.length * newTokens,
              },
              speed: assumedSpeed(engine, platform.coreCount),
              quotes: request.report !== false && request.quoteText !== false && place === undefined,
              measuresQuality: run.output !== undefined && evaluation !== false,
              certifies: run.output !== undefined && request.certify !== false,
              readsStatistics: place !== undefined,
            }),
          ),
        evaluated: texts?.flatMap(tokensMeasured),
      };
      const made = open.length === 0 ? finished : await makeOpen(context, making);
      const reports = results.map((_, index) => made.get(index)!);
      if (texts === undefined) return finish(reports);
      const samples = { prompts, newTokens };
      return finish(await stages.evaluate.run(context, { reports, engine, folder, texts, samples }));
    });
  });
}

/** Opens what a run reads, and refuses before the work begins what can be refused. */
async function openRun(
  context: JobContext,
  request: PruneRequest | LadderRequest,
  { options, quantisation, calibration, results }: ResolvedRequest & { readonly results: readonly ResultPlaces[] },
) {
  const { platform } = context;
  const { model, embeddings, offline, bos, weightsFrom, force = false, resume = true } = request;
  const { evaluation, statistics } = request;
  const output = request.dryRun ? undefined : request.out;
  const place = statistics === undefined ? undefined : resolvePair(platform.files, 'statistics', statistics);
  const stages = resolveStages(request.stages);
  const folder = await stages.open.run(context, { model, embeddings, offline, bos });
  const floats =
    weightsFrom === undefined ? undefined : await stages.open.run(context, { model: weightsFrom, offline });
  const [{ inside }] = dtypeFolders(layoutOf(folder, quantisation.layout), quantisation.dtypes);
  const checks = { force, calibration: place === undefined ? calibration : undefined };
  const mayGoOn = resume && (await mayBeKept(context, output, results));
  if (!mayGoOn) await checkPlaces(folder, results, checks);
  if (options.heal) await checkCalibrationFiles(platform.files, healingCalibration(calibration, options.heal));
  const texts = typeof evaluation === 'object' ? await prepareTexts(evaluation, folder) : undefined;
  const engine = await platform.createEngine(request);
  const key = await runKey(platform, request, {
    folders: [folder, ...(floats === undefined ? [] : [floats])],
    ...{ engine, call: 'prune', place, signal: options.signal, onProgress: context.onProgress },
  });
  return { stages, folder, floats, engine, place, texts, checks, output, inside, key };
}

/** Drafts that are measured for a size, roughly. */
const DRAFTS_PER_SIZE = 6;

interface Making
  extends Pick<
    JobRequest,
    'folder' | 'floats' | 'options' | 'calibration' | 'healingAs' | 'engine' | 'evaluated' | 'onAnalysed'
  > {
  readonly request: PruneRequest | LadderRequest;
  readonly stages: Stages;
  readonly quantisation: ResolvedQuantisation;
  /** Statistics that stand in for a look at the model. */
  readonly place: PairPlace | undefined;
  readonly results: readonly ResultPlaces[];
  readonly shrink: ResolvedShrink | undefined;
  /** Reports of results that are there already, by their place in `results`. */
  readonly finished: ReadonlyMap<number, PruneReport>;
}

/** Load, analyse, calibrate, measure the dense model once or load its statistics; then result by result. */
function makeOpen(context: JobContext, making: Making): Promise<ReadonlyMap<number, PruneReport>> {
  const { request, stages, place, results, finished, quantisation, shrink, ...given } = making;
  const { folder } = given;
  const { model, embeddings, weightsFrom, force = false, statistics, executionProvider, threads } = request;
  const { hiddenStates, quoteText = true, certify: certifies = true, reportPaths = false, stopHealing } = request;
  const { dtypes: dtype, ...form } = quantisation;
  const asked = {
    ...{ statistics, embeddings, weightsFrom, executionProvider, threads },
    ...(request.bos === false && { bos: false }),
    ...(dtype.length > 0 && { dtype, ...form }),
  };
  const open = results.filter((_, index) => !finished.has(index));
  const sizing = { stages, folder, quantisation };
  return withPart(context, async (part) => {
    const { job, ...prepared } = await prepareJob(part, {
      ...given,
      stages,
      hiddenStates,
      stopHealing,
      readsTokens: shrink !== undefined || learnsRounding(quantisation),
      keepsBlocks:
        request.widthMultiple === undefined && dtype.length === 0 && results.every((result) => amountOf(result) > 0),
      sparsities: open.map(({ sparsity }) => sparsity),
      checkModel: shrink && ((seen) => checkSizes(part, { ...sizing, shrink, job: seen })),
      checkRoom(denseBytes, analysed) {
        const { calibration, options } = given;
        const tokenCount =
          place !== undefined || calibration === undefined
            ? 0
            : calibration.windowCount * expectedWindowLength(calibration, folder, analysed);
        const sparsity = Math.min(...open.map((result) => result.sparsity));
        const room = { analysed, options, tokenCount, modelBytes: denseBytes, sparsity, place: hiddenStates };
        return checkRoom(folder, open, { force, denseBytes, scratchBytes: estimateScratch(room) });
      },
    });
    const seen: SeenModel =
      place !== undefined
        ? await stages.loadStatistics.run(part, { place, folder, job })
        : { ...prepared, measured: await stages.measureDense.run(part, { job }) };
    if (seen.measured !== undefined) part.onEnd(seen.measured.dispose);
    const windows = seen.calibration?.windows ?? job.windows;
    const { analysed, engine, healing } = job;
    const heldOut = holdWindowsOut(part, {
      ...{ folder, analysed },
      windows: [...windows, ...(healing?.windows ?? []), ...(healing?.heldOut ?? [])],
      source: given.calibration?.source ?? given.healingAs?.source,
    });
    const createStore = (windowCount: number, windowBytes: number) =>
      createStoreIn(part, { place: hiddenStates, windowBytes })(windowCount);
    const source = {
      ...{ folder, ...seen, heldOut },
      job: { ...job, windows },
      reference:
        request.evaluation === false
          ? undefined
          : createQualityReference(part, { engine, folder, analysed, heldOut, createStore }),
    };
    const choose = shrink && seen.measured && prepareSizes(part, { ...sizing, shrink, job }, seen.measured);
    const reports = new Map(finished);
    for (const [index, places] of results.entries()) {
      if (reports.has(index)) continue;
      const chosen = places.targetBytes === undefined ? undefined : await choose?.(places.targetBytes);
      const written = {
        ...{ stages, model, force, quoteText, reportPaths, certifies, asked, index },
        quantisation: chosen?.quantisation ?? quantisation,
        places: { ...places, ...(chosen && { sparsity: chosen.sparsity }) },
        allocation: chosen?.allocation,
        size: chosen?.report,
      };
      reports.set(index, await withPart(part, (own) => makeResult(own, source, written)));
    }
    return reports;
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
  { allocation, ...written }: WriteRequest & Pick<PruneInput, 'allocation'>,
): Promise<PruneReport> {
  const { stages, places, index } = written;
  const { sparsity } = places;
  return withScratchWeights(context.platform, async (store) => {
    const input = { job: source.job, measured, sparsity, allocation, store, index };
    const outcome = await stages.pruneMeasured.run(context, input);
    context.timings.push(...outcome.timings);
    context.remarks.push(...remarkFewTokens(source.job, outcome), ...outcome.remarks);
    return writeResult(context, { ...source, store }, outcome, written);
  });
}

/** Writes reports again that have grown since. */
export async function rewriteReports(
  { files }: Platform,
  reports: readonly PruneReport[],
  {
    results,
    reportPaths: paths,
  }: Pick<PruneRequest, 'reportPaths'> & { readonly results: readonly Pick<ResultPlaces, 'report'>[] },
): Promise<void> {
  for (const [at, { report: place }] of results.entries()) {
    const report = reports[at]!;
    const folder = place?.folder ?? (report.out && files.resolve(report.out));
    if (place !== undefined && folder !== undefined)
      await writeReport(files, report, { folder, name: place.name, paths });
  }
}
