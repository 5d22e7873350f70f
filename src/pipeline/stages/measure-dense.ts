import type { PruneJob } from '../../prune/job.js';
import { type ObservedModel, observeModel } from '../../prune/observe-model.js';
import { storeInMemory } from '../../removal/repair-linear.js';
import type { Stage } from '../job-context.js';

export interface MeasureInput {
  readonly job: Omit<PruneJob, 'store'>;
  /** How many results will be made from it. */
  readonly resultCount: number;
}

/** Looks at the dense model as far as the method needs it, once for all results. @see observeModel */
export const measureDense: Stage<MeasureInput, ObservedModel> = {
  name: 'measureDense',
  run: (_, { job, resultCount }) => observeModel({ ...job, store: storeInMemory }, resultCount),
};
