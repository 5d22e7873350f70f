import type { Allocation } from '../allocation/allocation.js';
import type { PruneJob, PruneOutcome } from '../prune/job.js';
import type { MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { pruneMeasured as pruneFrom, pruneModel } from '../prune/prune-model.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import type { Stage } from './job-context.js';

export interface PruneInput {
  readonly job: Omit<PruneJob, 'store'>;
  /** Measurements of the dense model; undefined for several shots, which measure in each round. */
  readonly measured: MeasuredModel | undefined;
  readonly sparsity: number;
  /** Replaces the job's allocation. */
  readonly allocation?: Allocation | undefined;
  /** Stores changed weights until the result is saved. */
  readonly store: StoreTensor;
  /** Index of the result, from 0. */
  readonly index: number;
}

/** Prunes to one sparsity. @see pruneModel */
export const pruneMeasured: Stage<PruneInput, PruneOutcome> = {
  name: 'prune',
  run: (_, { job, measured, sparsity, allocation, store, index }) =>
    measured === undefined
      ? pruneModel({
          ...job,
          store,
          journal: job.journal?.within(`result-${index}`),
          options: { ...job.options, sparsity },
        })
      : pruneFrom(measured, { sparsity, store, index, ...(allocation && { allocation }) }),
};
