import { OptionError } from '../errors.js';
import { type ResolvedCalibration, type ResolvedOptions, resolveCalibration, resolveOptions } from '../options.js';
import type { Files } from '../platform/platform.js';
import { type PairPlace, resolvePair } from '../storage/json-with-tensors.js';
import type { PruneRequest } from './prune-request.js';
import type { ResultPlaces } from './write-result.js';

/** A request's options, resolved and found to go together before anything is opened. */
export interface PrunePlan {
  readonly options: ResolvedOptions;
  readonly calibration: ResolvedCalibration;
  /** Statistics that stand in for a look at the model. */
  readonly statistics: PairPlace | undefined;
}

/** @throws OptionError for what is out of range, missing, or contradicts something else. */
export function planPrune(
  files: Files,
  request: Omit<PruneRequest, 'sparsity'>,
  results: readonly ResultPlaces[],
): PrunePlan {
  const [options] = results.map(({ sparsity }) => resolveOptions({ ...request, sparsity }));
  const { shots, calibrationDefaults } = options!;
  const calibration = resolveCalibration(request.calibration, calibrationDefaults);
  const { out, dryRun, recipe, hiddenStates, evaluation } = request;
  if (out === undefined && !dryRun) {
    throw new OptionError('out is missing: name the folder to write, or ask for a dryRun');
  }
  if (recipe !== undefined && shots > 1) {
    throw new OptionError(`recipe cannot hold what ${shots} shots do; leave it out, or use one shot`);
  }
  const statistics = resolveStatistics(files, request, shots);
  if (evaluation !== undefined && dryRun) {
    throw new OptionError('evaluation measures what was written, and a dryRun writes nothing; leave one of both out');
  }
  if (hiddenStates !== undefined && !['memory', 'spill'].includes(hiddenStates)) {
    throw new OptionError(`hiddenStates is "${hiddenStates}"; expected memory or spill`);
  }
  return { options: options!, calibration, statistics };
}

/** Saved statistics that a run is to be made from. @throws OptionError where other options contradict them. */
function resolveStatistics(
  files: Files,
  { statistics, calibration = {} }: Pick<PruneRequest, 'statistics' | 'calibration'>,
  shots: number,
): PairPlace | undefined {
  if (statistics === undefined) return undefined;
  const given = Object.entries(calibration).find(([, value]) => value !== undefined);
  if (given !== undefined)
    throw new OptionError(
      `calibration.${given[0]} is of no use with statistics: they were taken on windows of their own`,
    );
  if (shots > 1) throw new OptionError(`statistics of the dense model tell nothing of ${shots} shots; use one shot`);
  return resolvePair(files, 'statistics', statistics);
}
