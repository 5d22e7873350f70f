import { type ResolvedCalibration, type ResolvedOptions, readsTokens } from '../options.js';
import { checkBudget } from '../prune/check-budget.js';
import type { PruneJob, StageTiming } from '../prune/job.js';
import { type SettledCalibration, settledCalibration } from '../report/plain-settings.js';
import type { StatisticsReport } from '../report/report-schema.js';
import { analyseModel } from '../runtime/analyse-model.js';
import { createMemoryStates, createSpilledStates, type HiddenStates } from '../runtime/hidden-states.js';
import { calibrateFolder, type FolderWindows } from './calibrate-folder.js';
import type { ModelFolder } from './model-folder.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';
import { createSpillFile, type SpillFile } from './spill-file.js';

/** What a pruning run over a folder begins with. */
export interface PruneJobRequest extends EngineChoice {
  readonly folder: ModelFolder;
  readonly options: ResolvedOptions;
  /** Absent: the run needs no windows, for its statistics are at hand. */
  readonly calibration: ResolvedCalibration | undefined;
  readonly hiddenStates?: 'memory' | 'spill' | undefined;
  /** What the model will be pruned to: budgets that cannot be met are refused before calibration windows are made. */
  readonly sparsities?: readonly number[] | undefined;
}

/** A model folder that stands ready to be pruned: loaded, understood, with its calibration windows. */
export interface FolderJob {
  readonly folder: ModelFolder;
  readonly job: Omit<PruneJob, 'store'>;
  /** Absent for methods that look at no token. */
  readonly calibration: FolderWindows | undefined;
  /** Options that make its windows again. */
  readonly settled?: SettledCalibration | undefined;
  /** Statistics that stand in for a look at the model. */
  readonly statistics?: StatisticsReport | undefined;
  /** Stages until now. */
  readonly timings: readonly StageTiming[];
}

/** Hidden states beyond this go to a temporary file: a laptop's browser and editor need memory too. */
const MEMORY_STATES_BYTES = 256 * 2 ** 20;
/** The same for what grows with the blocks, so that memory hardly does. */
const BLOCKS_STATES_BYTES = 16 * 2 ** 20;

/** Loads and analyses a folder's model and makes its calibration windows; temporary files go when `use` is done. */
export async function withPruneJob<T>(request: PruneJobRequest, use: (job: FolderJob) => Promise<T>): Promise<T> {
  const spills: SpillFile[] = [];
  const spill = async () => {
    const file = await createSpillFile();
    spills.push(file);
    return file;
  };
  try {
    return await use(await openPruneJob(request, spill));
  } finally {
    await Promise.all(spills.map((file) => file.dispose()));
  }
}

async function openPruneJob(request: PruneJobRequest, spill: () => Promise<SpillFile>): Promise<FolderJob> {
  const { folder, options, calibration: calibrationOptions, hiddenStates, sparsities } = request;
  const timings: StageTiming[] = [];
  const timed = async <T>(stage: string, action: () => Promise<T>): Promise<T> => {
    options.onProgress?.({ stage, done: 0, total: 1 });
    const start = performance.now();
    const result = await action();
    timings.push({ stage, ms: performance.now() - start });
    return result;
  };
  const engine = await createNodeEngine(request);
  const model = await timed('load', () => folder.load());
  const analysed = await timed('analyse', () => analyseModel(model, engine, options.signal));
  checkBudget({ analysed, options }, sparsities ?? []);
  const { hiddenSize, vocabularySize } = analysed.detected.layout;
  const { seed, onProgress, signal } = options;
  const reads = calibrationOptions !== undefined && readsTokens(options);
  const calibration = reads
    ? await calibrateFolder({
        folder,
        model,
        engine,
        calibration: calibrationOptions,
        vocabularySize,
        positionCount: analysed.positionCount,
        seed,
        timed,
        onProgress,
        signal,
      })
    : undefined;
  const windows = calibration?.windows ?? [];
  const windowBytes = (windows[0]?.length ?? 0) * hiddenSize * 4;
  return {
    folder,
    calibration,
    settled: calibration && settledCalibration(calibrationOptions!, calibration.provenance),
    timings,
    job: {
      model,
      analysed,
      engine,
      windows,
      options,
      async createStates(windowCount, blockCount = 1): Promise<HiddenStates> {
        const limit = blockCount > 1 ? BLOCKS_STATES_BYTES : MEMORY_STATES_BYTES;
        const place = hiddenStates ?? (windowCount * blockCount * windowBytes > limit ? 'spill' : 'memory');
        return place === 'memory' ? createMemoryStates() : createSpilledStates(await spill());
      },
    },
  };
}
