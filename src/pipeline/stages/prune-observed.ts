import { partOfProgress } from '../../progress.js';
import type { PruneJob, PruneOutcome } from '../../prune/job.js';
import type { ObservedModel } from '../../prune/observe-model.js';
import { pruneObserved as pruneFrom, pruneModel } from '../../prune.js';
import type { StoreTensor } from '../../removal/repair-linear.js';
import type { Stage } from '../job-context.js';

export interface PruneInput {
  readonly job: Omit<PruneJob, 'store'>;
  /** What was seen of the dense model; undefined for several shots, which look each at what the one before left. */
  readonly observed: ObservedModel | undefined;
  readonly sparsity: number;
  /** Keeps rewritten weights until the result is saved. */
  readonly store: StoreTensor;
  /** Which of how many results, from 0, for the progress. */
  readonly index: number;
  readonly resultCount: number;
}

/** Makes one result. @see pruneModel */
export const pruneObserved: Stage<PruneInput, PruneOutcome> = {
  name: 'prune',
  run: (_, { job, observed, sparsity, store, index, resultCount }) =>
    observed === undefined
      ? pruneModel({ ...job, store, options: partOf(job.options, { sparsity, index, resultCount }) })
      : pruneFrom(observed, { sparsity, store, index }),
};

function partOf(
  { onProgress, ...options }: PruneJob['options'],
  { sparsity, index, resultCount }: Pick<PruneInput, 'sparsity' | 'index' | 'resultCount'>,
): PruneJob['options'] {
  return { ...options, sparsity, onProgress: onProgress && partOfProgress(onProgress, index, resultCount) };
}
