import type { DenseStatistics } from '../prune/measure-dense/dense-statistics.js';
import { checkSavedStatistics, parseStatistics } from '../report/parse-statistics.js';
import { type PairPlace, withPair } from './json-with-tensors.js';
import { checkLayout, checkModelHash } from './model-origin.js';
import type { FolderJob } from './open-prune-job.js';

/** A model folder that stands ready to be pruned from statistics. */
export interface LoadedJob {
  /** With the windows and the calibration of the look that the statistics are from. */
  readonly opened: FolderJob;
  readonly statistics: DenseStatistics;
}

/**
 * Opens saved statistics for a model that was opened, while `use` works with them.
 * @throws OptionError when there are none, or they are of another model; ModelFormatError naming the file that is damaged.
 */
export async function withStatistics<T>(
  place: PairPlace,
  opened: FolderJob,
  use: (recalled: LoadedJob) => Promise<T>,
): Promise<T> {
  const { folder, job } = opened;
  const { signal } = job.options;
  return withPair(place, {
    check: checkSavedStatistics,
    signal,
    use: async ({ json, tensors }) => {
      const made = { name: place.json, version: json.version, origin: json.model };
      await checkModelHash(made, folder, { model: job.model, signal });
      await checkLayout(made, job.analysed);
      const { layout } = job.analysed.detected;
      const { windows, statistics } = await parseStatistics(json, { layout, tensors, files: place });
      const remark = `pruned from statistics of the dense model (${place.json}): no block was measured on what the pruned ones before it produce`;
      const { calibration: provenance, tensors: kept } = json;
      const calibration = { windows, windowLength: provenance.windowLength, provenance, remarks: [remark] };
      const named = { file: place.json, sha256: kept.sha256 };
      return use({ opened: { ...opened, job: { ...job, windows }, calibration, statistics: named }, statistics });
    },
  });
}
