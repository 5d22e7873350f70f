import { generatedShare } from '../options/calibration.js';
import { PLAN_SHRINK } from '../options/commands.js';
import { checkOptions, refusal, rowsOf } from '../options/option.js';
import { resolveRequest } from '../options/request.js';
import { checkRun } from '../prune/check-run.js';
import { joinTimings, type StageTiming } from '../prune/job.js';
import { measureSpeed } from '../prune/measure-speed.js';
import { storeInMemory } from '../removal/repair-linear.js';
import type { VocabularyReport } from '../report/report-schema.js';
import type { Platform } from '../runtime/platform.js';
import { resolvePair } from '../storage/json-with-tensors.js';
import { modelPaths, totalBytes } from '../storage/model-folder.js';
import { checkFreeSpace, checkOutputPaths } from './check-output-paths.js';
import { type PlannedSizes, planSizes } from './choose-size.js';
import { estimateCost, expectedWindowLength, machineSpeed, modelSize } from './estimate-cost.js';
import { estimateMemory, estimateScratch } from './estimate-resources.js';
import { withJob } from './job-context.js';
import { entireModelBytes } from './refuse-too-large.js';
import type { PlannedWindows } from './run-plan.js';
import { DRAFTS_PER_SIZE } from './run-prune.js';
import { checkShrink, pruneRequestOf, type ShrinkRequest, sizePaths, vocabularyOf } from './run-shrink.js';
import { resolveStages } from './stages.js';
import { storeFactory } from './store-factory.js';
import { trimInMemory } from './trimmed-folder.js';

/** A `shrink` request to estimate; sizes are optional. */
export interface PlanShrinkRequest extends Omit<ShrinkRequest, 'dryRun'> {
  /**
   * Statistics of this model that `observe` wrote with method `auto`, to predict the best mixture for each size.
   * Default: only sizes and time are estimated.
   */
  readonly statistics?: string | undefined;
}

/** Reachable sizes, and the cost of a run. */
export interface ShrinkPlan extends PlannedSizes {
  /** The model as given. */
  readonly model: string;
  /** Bytes of the model file with its external data. */
  readonly bytes: number;
  /** Planned trimming of the vocabulary, if requested. */
  readonly vocabulary?: VocabularyReport;
  /** Calibration windows of the run. */
  readonly calibration: PlannedWindows;
  /** Expected wall time by stage, in order. */
  readonly stages: readonly StageTiming[];
  /** Expected total time on this machine under its current load. */
  readonly ms: number;
  /** Approximate peak memory. */
  readonly memoryBytes: number;
  /** Largest temporary disk space in addition to the output. */
  readonly scratchBytes: number;
  /** Remarks for readers. */
  readonly remarks: readonly string[];
}

/**
 * Estimates a run of `shrink` without reading text: reachable sizes, the size of each dtype, run time, and, from
 * statistics, the choice.
 * @throws OptionError, ModelFormatError, UnsupportedModelError as the run would.
 */
export function runPlanShrink(platform: Platform, given: PlanShrinkRequest): Promise<ShrinkPlan> {
  const request = checkOptions(given, rowsOf(PLAN_SHRINK));
  const { statistics, ...shrinkRequest } = request;
  const shrink = checkShrink(shrinkRequest, true);
  const vocabulary = vocabularyOf(shrinkRequest);
  if (statistics !== undefined && vocabulary !== undefined)
    throw refusal('statistics', 'cover the entire vocabulary, which is to be trimmed; leave one of them out');
  const pruneRequest = pruneRequestOf(shrinkRequest, shrink);
  // Statistics include costs of removal, even if only bits are allowed.
  const { method: _, ...observed } = { ...pruneRequest, sparsity: 0.5 };
  const dryRun = request.out === undefined;
  const { options, quantisation, calibration } = resolveRequest({
    ...(statistics === undefined ? pruneRequest : observed),
    dryRun,
  });
  const { model, embeddings, offline, bos, force = false } = request;
  const stages = resolveStages(request.stages);
  const results = sizePaths(platform, request, shrink);
  return withJob(platform, request, async (context) => {
    const original = await stages.open.run(context, { model, embeddings, offline, bos });
    await checkOutputPaths(original, results, { force, calibration });
    const trimmed = vocabulary && (await trimInMemory(context, original, vocabulary));
    const folder = trimmed?.folder ?? original;
    const loaded = await stages.load.run(context, folder);
    const engine = await platform.createEngine(request);
    const analysed = await stages.analyse.run(context, { model: loaded, engine });
    const bytes = await totalBytes(platform, modelPaths(folder, loaded));
    const windowLength = await expectedWindowLength(calibration, folder);
    const tokenCount = calibration.windowCount * windowLength;
    const scratchBytes = estimateScratch({
      analysed,
      options,
      tokenCount,
      windowLength,
      modelBytes: bytes,
      sparsity: 0,
      certifies: request.certify !== false,
    });
    await checkFreeSpace(original, results, { force, denseBytes: bytes, scratchBytes });
    const unpruned = { model: loaded, analysed, engine, options: { ...options, sparsity: 0 }, windows: [] };
    const job = { ...unpruned, createStore: storeFactory(context, 0) };
    checkRun(job, [0]);
    const speed = await context.timed('time', () => measureSpeed({ ...job, store: storeInMemory }, windowLength));
    // Remarks about pruning from statistics do not apply to an estimate.
    const withoutRemarks = { ...context, remarks: [] };
    const found =
      statistics === undefined
        ? undefined
        : await stages.loadStatistics.run(withoutRemarks, {
            place: resolvePair(platform.files, 'statistics', statistics),
            folder,
            job,
          });
    const measured = found && {
      ...found.measured,
      windowLength: found.calibration.windowLength,
    };
    const planned = await planSizes(context, { stages, folder, job, quantisation, shrink }, measured);
    const { windowCount } = calibration;
    const cost = joinTimings(
      estimateCost({
        options,
        quantisation,
        calibration,
        windowLength,
        size: modelSize(analysed),
        resultCount: Math.max(1, results.length),
        draftCount: DRAFTS_PER_SIZE,
        evaluated: { modelCount: 0, tokenCount: 0, newTokens: 0 },
        speed: machineSpeed(speed),
        certifies: request.certify !== false,
        measuresQuality: request.evaluation !== false,
        quotes: request.report !== false && request.quoteText !== false,
      }),
    );
    return {
      model,
      bytes,
      ...planned,
      ...(trimmed && { vocabulary: trimmed.report }),
      calibration: { windowCount, windowLength, writtenCount: Math.round(windowCount * generatedShare(calibration)) },
      stages: cost,
      ms: cost.reduce((sum, { ms }) => sum + ms, 0),
      memoryBytes: estimateMemory({
        analysed,
        options,
        quantisation,
        entireModelBytes: await entireModelBytes(engine, folder),
      }),
      scratchBytes,
      remarks: context.remarks,
    };
  });
}
