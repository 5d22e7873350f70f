import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import { OBSERVE } from '../options/commands.js';
import { checkOptions, type OptionsOf, rowsOf } from '../options/option.js';
import { type ObservationOptions, resolveObservation } from '../options/request.js';
import type { OBSERVE_RESULT } from '../options/single-calls.js';
import type { ReadingOptions } from '../options/texts.js';
import type { CalibrationOptions, MetricName } from '../options.js';
import type { StatisticsKind } from '../prune/measure-dense/dense-statistics.js';
import { gatherStatistics, statisticsKind } from '../prune/measure-dense/gather-statistics.js';
import { type StoreTensor, storeInMemory } from '../removal/repair-linear.js';
import { createStatisticsPacker } from '../report/pack-statistics.js';
import { checkSavedStatistics } from '../report/parse-statistics.js';
import { plainSettings } from '../report/plain-settings.js';
import { type SavedStatistics, STATISTICS_SCHEMA } from '../report/statistics-schema.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Platform } from '../runtime/platform.js';
import { checkPairPaths, type PairPaths, resolvePair, runOfPair, writePair } from '../storage/json-with-tensors.js';
import { type ModelFolder, type ModelRequest, totalBytes } from '../storage/model-folder.js';
import { originOf } from '../storage/model-origin.js';
import { readJsonFile } from '../storage/read-json.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { VERSION } from '../version.js';
import { checkCalibrationFiles } from './check-output-paths.js';
import { describeEnvironment } from './describe-environment.js';
import { assumedSpeed, estimateObservation, expectedWindowLength, modelSize } from './estimate-cost.js';
import type { JobContext } from './job-context.js';
import { type JobRequest, type PreparedJob, prepareJob } from './prepare-job.js';
import { figuresOf, type OpenedModels, type RunFigures, runResumable } from './resumable-job.js';
import { parseShard, refuseGroups, type Shard, takeShard } from './shards.js';
import type { StagesOption } from './stages.js';

/** A dense model whose statistics are collected. */
export interface ObserveRequest
  extends ObservationOptions,
    ModelRequest,
    ReadingOptions,
    StagesOption<'open' | 'load' | 'analyse' | 'calibrate'>,
    OptionsOf<typeof OBSERVE_RESULT> {
  /** Resume from the checkpoints of the same run in `<out>.partial`. Default true. */
  readonly resume?: boolean | undefined;
  /** Calibration tokens; as for `prune`. */
  readonly calibration?: CalibrationOptions | undefined;
}

/** Written statistics. */
export interface ObservedFolder extends RunFigures {
  readonly model: string;
  /** Path of the JSON file; the tensors are next to it. */
  readonly out: string;
  readonly method: string;
  readonly seed: number;
  /** Sums per channel: `moments` (means and variances) or `gram` (also Gram matrices). */
  readonly sums: StatisticsKind;
  /** Metric; with `loss` or `divergence` gradients were computed. */
  readonly metric: MetricName;
  /** Whether neurons were grouped by function. */
  readonly grouped: boolean;
  readonly moduleCount: number;
  readonly calibration: CalibrationProvenance;
  /** Both files. */
  readonly bytes: number;
}

/** Opens, loads, analyses and calibrates; then measures the dense model and writes the statistics. */
export function runObserve(platform: Platform, given: ObserveRequest): Promise<ObservedFolder> {
  const request = checkOptions(given, rowsOf(OBSERVE));
  const { files } = platform;
  const { options, calibration } = resolveObservation(request);
  const shard = request.shard === undefined ? undefined : parseShard(request.shard);
  if (shard !== undefined) refuseGroups(options);
  const place = resolvePair(files, 'statistics', request.out);
  const { model, embeddings, offline, bos, force = false } = request;
  return runResumable<OpenedModels, void, Omit<SavedStatistics, 'tensors'>, ObservedFolder>(platform, {
    call: 'observe',
    request,
    output: request.out,
    open: async (context, stages) => ({
      folders: [await stages.open.run(context, { model, embeddings, offline, bos })],
    }),
    hasEarlierRun: async () =>
      (await runOfPair(files, place)) !== undefined || ((await platform.hasUnfinishedRun?.(request.out)) ?? false),
    async checkOutput(_, { resuming, found }) {
      if (found === undefined) await checkPairPaths(files, place, { force, resuming });
    },
    prepare: () => checkCalibrationFiles(files, calibration),
    async find({ run }) {
      if (run === undefined || (await runOfPair(files, place)) !== run) return undefined;
      return checkSavedStatistics((await readJsonFile(files, place.json))!, place.json);
    },
    async make(context, { stages, engine, opened, found }) {
      const [folder] = opened.folders;
      const saved =
        found ??
        (await measureStatistics(context, place, { stages, folder: folder!, options, calibration, engine, shard }));
      return {
        model,
        out: place.json,
        method: saved.method,
        seed: saved.seed,
        sums: saved.sums,
        metric: saved.metric,
        grouped: options.grouping !== undefined,
        moduleCount: saved.modules.length + (saved.experts?.length ?? 0),
        calibration: saved.calibration,
        bytes: await totalBytes(platform, [place.json, place.tensors]),
        ...figuresOf(context),
        remarks: [...saved.remarks, ...context.notes],
      };
    },
  });
}

async function measureStatistics(
  context: JobContext,
  place: PairPaths,
  { shard, ...request }: JobRequest & { readonly shard: Shard | undefined },
): Promise<Omit<SavedStatistics, 'tensors'>> {
  const { options, calibration, folder } = request;
  const onAnalysed = async (analysed: AnalysedModel) => {
    if (calibration === undefined) return;
    context.expect(
      estimateObservation({
        options,
        size: modelSize(analysed),
        calibration,
        shardCount: shard?.count ?? 1,
        speed: assumedSpeed(request.engine, context.platform.coreCount),
        windowLength: await expectedWindowLength(calibration, folder),
      }),
    );
  };
  const prepared = await prepareJob(context, { ...request, onAnalysed });
  const job = shard === undefined ? prepared.job : takeShard(prepared.job, shard);
  return withScratchWeights(context.platform, (store) =>
    writeStatistics(context, place, { folder: request.folder, store, ...prepared, job, shard }),
  );
}

interface Statistics extends PreparedJob {
  readonly folder: ModelFolder;
  /** Store of the statistics until they are written. */
  readonly store: StoreTensor;
  readonly shard: Shard | undefined;
}

async function writeStatistics(
  { platform, run, timed, timings, remarks, signal }: JobContext,
  place: PairPaths,
  { folder, store, job, calibration, calibrationSettings, shard }: Statistics,
): Promise<Omit<SavedStatistics, 'tensors'>> {
  const { options, model, windows } = job;
  const packer = createStatisticsPacker(store);
  const collected = await gatherStatistics({ ...job, store: storeInMemory }, packer);
  timings.push(...collected.timings);
  const { modules, experts, tensors } = await packer.finish(collected.dense, windows);
  const saved: Omit<SavedStatistics, 'tensors'> = {
    schema: STATISTICS_SCHEMA,
    version: VERSION,
    ...(run !== undefined && { run }),
    model: await originOf(folder, model, { layout: job.analysed.detected.layout, signal }),
    environment: describeEnvironment(platform, job.engine),
    method: options.methodName,
    seed: options.seed,
    sums: statisticsKind(options),
    metric: options.metric,
    settings: plainSettings(options, { calibration: calibrationSettings, ...(!folder.bos && { bos: false }) }),
    calibration: { ...calibration!.provenance, windowCount: windows.length },
    ...(shard && { shard: { ...shard, firstWindow: job.firstWindow ?? 0 } }),
    modules,
    ...(experts.length > 0 && { experts }),
    remarks: [...remarks, ...collected.remarks],
  };
  signal?.throwIfAborted();
  await folder.checkUnchanged();
  await timed('save', () => writePair(platform, place, { json: saved, tensors }));
  return saved;
}
