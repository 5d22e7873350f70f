import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import { OBSERVE } from '../options/commands.js';
import type { StatesPlace } from '../options/folder.js';
import { checkOptions, rowsOf } from '../options/option.js';
import { type LookOptions, resolveLook } from '../options/request.js';
import type { CalibrationOptions, MetricName } from '../options.js';
import type { Platform } from '../platform/platform.js';
import type { StageTiming } from '../prune/job.js';
import type { KeptSums } from '../prune/measure-dense/dense-statistics.js';
import { gatherStatistics, keptSums } from '../prune/measure-dense/gather-statistics.js';
import { type StoreTensor, storeInMemory } from '../removal/repair-linear.js';
import { createStatisticsPacker } from '../report/pack-statistics.js';
import { plainSettings } from '../report/plain-settings.js';
import { type SavedStatistics, STATISTICS_SCHEMA } from '../report/statistics-schema.js';
import { checkPairPlace, type PairPlace, resolvePair, writePair } from '../storage/json-with-tensors.js';
import { type ModelFolder, type ModelRequest, totalBytes } from '../storage/model-folder.js';
import { originOf } from '../storage/model-origin.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { VERSION } from '../version.js';
import { checkCalibrationFiles } from './check-places.js';
import { describeEnvironment } from './describe-environment.js';
import { type JobContext, withJob } from './job-context.js';
import { type PreparedJob, prepareJob } from './prepare-job.js';
import { resolveStages, type StagesOption } from './stages.js';

/** A look at a model folder whose statistics are kept. */
export interface ObserveRequest
  extends LookOptions,
    ModelRequest,
    StagesOption<'open' | 'load' | 'analyse' | 'calibrate'> {
  /** Folder that gets `statistics.json` and `statistics.safetensors`, or the path of such a `.json` file. */
  readonly out: string;
  /** Replace statistics that exist. Default false. */
  readonly force?: boolean | undefined;
  readonly calibration?: CalibrationOptions | undefined;
  /** Where hidden states wait between blocks. Default: in memory up to 256 MiB (those of all blocks up to 16), else in a temporary file. */
  readonly hiddenStates?: StatesPlace | undefined;
}

/** Statistics that were written. */
export interface ObservedFolder {
  readonly model: string;
  /** The JSON file; the tensors lie beside it. */
  readonly out: string;
  readonly method: string;
  readonly seed: number;
  /** Of every channel: means and variances, or Gram matrices too. */
  readonly sums: KeptSums;
  /** `loss` and `divergence`: its gradients were taken. */
  readonly metric: MetricName;
  /** Whether neurons were grouped by function. */
  readonly grouped: boolean;
  readonly moduleCount: number;
  readonly calibration: CalibrationProvenance;
  /** Both files. */
  readonly bytes: number;
  readonly timings: readonly StageTiming[];
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

/** Open, load, analyse, calibrate; then what is seen of the dense model is written. */
export async function runObserve(platform: Platform, request: ObserveRequest): Promise<ObservedFolder> {
  checkOptions(request, rowsOf(OBSERVE));
  const { files } = platform;
  const { options, calibration } = resolveLook(request);
  const place = resolvePair(files, 'statistics', request.out);
  const { model, embeddings, executionProvider, threads, engine, hiddenStates, force } = request;
  const stages = resolveStages(request.stages);
  await checkPairPlace(files, place, { force });
  await checkCalibrationFiles(files, calibration);
  return withJob(platform, options, async (context) => {
    const folder = await stages.open.run(context, { model, embeddings });
    const choice = { executionProvider, threads, engine };
    const prepared = await prepareJob(context, { stages, folder, options, calibration, hiddenStates, engine: choice });
    const saved = await withScratchWeights(platform, (store) =>
      writeStatistics(context, place, { folder, store, ...prepared }),
    );
    const memory = platform.peakMemoryBytes();
    return {
      model,
      out: place.json,
      method: saved.method,
      seed: saved.seed,
      sums: saved.sums,
      metric: saved.metric,
      grouped: options.grouping !== undefined,
      moduleCount: saved.modules.length,
      calibration: saved.calibration,
      bytes: await totalBytes(platform, [place.json, place.tensors]),
      timings: context.timings,
      ...(memory !== undefined && { peakMemoryBytes: memory }),
      remarks: saved.remarks,
    };
  });
}

interface Statistics extends PreparedJob {
  readonly folder: ModelFolder;
  /** Keeps them until they are written. */
  readonly store: StoreTensor;
}

async function writeStatistics(
  { platform, timed, timings, remarks, signal }: JobContext,
  place: PairPlace,
  { folder, store, job, calibration, settled }: Statistics,
): Promise<Omit<SavedStatistics, 'tensors'>> {
  const { options, model, windows } = job;
  const packer = createStatisticsPacker(store);
  const collected = await gatherStatistics({ ...job, store: storeInMemory }, packer.addModule);
  timings.push(...collected.timings);
  const { modules, tensors } = await packer.finish(collected.dense, windows);
  const saved: Omit<SavedStatistics, 'tensors'> = {
    schema: STATISTICS_SCHEMA,
    version: VERSION,
    model: await originOf(folder, model, { layout: job.analysed.detected.layout, signal }),
    environment: describeEnvironment(platform, job.engine),
    method: options.methodName,
    seed: options.seed,
    sums: keptSums(options),
    metric: options.metric,
    settings: plainSettings(options, { calibration: settled }),
    calibration: calibration!.provenance,
    modules,
    remarks: [...remarks, ...collected.remarks],
  };
  signal?.throwIfAborted();
  await folder.checkUnchanged();
  await timed('save', () => writePair(platform, place, { json: saved, tensors }));
  return saved;
}
