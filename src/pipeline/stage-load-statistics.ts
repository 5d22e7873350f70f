import type { CalibrationSet } from '../calibration/calibration-set.js';
import { OptionError } from '../errors.js';
import { everyNth } from '../prune/every-nth.js';
import type { PruneJob } from '../prune/job.js';
import { loadStatistics as load, type MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { storeInMemory } from '../removal/repair-linear.js';
import { checkSavedStatistics, parseStatistics } from '../report/parse-statistics.js';
import type { CalibrationSettings } from '../report/plain-settings.js';
import type { StatisticsReport } from '../report/report-schema.js';
import { openPair, type PairPaths } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { checkLayout, checkModelHash } from '../storage/model-origin.js';
import type { Stage } from './job-context.js';
import { storeFactory } from './store-factory.js';

export interface StatisticsInput {
  readonly place: PairPaths;
  readonly folder: ModelFolder;
  readonly job: Omit<PruneJob, 'store'>;
  /** Largest number of windows of the statistics that repairs read. Default 0. */
  readonly repairWindowCount?: number | undefined;
}

/** Saved measurements of the dense model. */
export interface LoadedStatistics {
  readonly measured: MeasuredModel;
  /** Windows of the statistics. */
  readonly calibration: CalibrationSet;
  /** Absent if no tokens were read. */
  readonly calibrationSettings?: CalibrationSettings | undefined;
  readonly statistics: StatisticsReport;
}

/**
 * Loads the measurements of the dense model from saved statistics, which are read lazily until the job ends.
 * @throws OptionError when they are missing, or of another model; ModelFormatError naming a damaged file.
 */
export const loadStatistics: Stage<StatisticsInput, LoadedStatistics> = {
  name: 'loadStatistics',
  async run(context, { place, folder, job, repairWindowCount = 0 }) {
    const { platform, onEnd, remarks, signal } = context;
    const { json, tensors, close } = await openPair(platform, place, { check: checkSavedStatistics, signal });
    onEnd(close);
    if (json.shard !== undefined)
      throw new OptionError(
        `${place.json} is shard ${json.shard.index} of ${json.shard.count}; merge all shards first (mergeStatistics, fang-prune merge)`,
        { option: 'statistics' },
      );
    const origin = { name: place.json, version: json.version, origin: json.model };
    await checkModelHash(origin, folder, { model: job.model, signal });
    await checkLayout(origin, job.analysed);
    const { layout } = job.analysed.detected;
    const { windows, statistics } = await parseStatistics(json, { layout, tensors, files: place });
    remarks.push(
      `pruned from statistics of the dense model (${place.json}): blocks were not measured on the outputs of the pruned blocks before them`,
    );
    const { calibration: provenance, tensors: tensorFile } = json;
    const { windowLength } = provenance;
    const createStore = storeFactory(context, windowLength * layout.hiddenSize * Float32Array.BYTES_PER_ELEMENT);
    const repairing = { ...job, createStore, windows: spreadWindows(windows, repairWindowCount) };
    return {
      measured: await load({ ...repairing, store: storeInMemory }, statistics),
      calibration: { windows, windowLength, provenance },
      ...(repairWindowCount > 0 && { calibrationSettings: { source: undefined, windowCount: repairWindowCount } }),
      statistics: { file: place.json, sha256: tensorFile.sha256 },
    };
  },
};

/** At most `count` windows, evenly spaced: text and generated windows alternate in the list. */
const spreadWindows = (windows: readonly Int32Array[], count: number): readonly Int32Array[] =>
  count === 0 ? [] : everyNth(windows, Math.max(1, Math.floor(windows.length / count))).slice(0, count);
