import type { PruneJob } from '../../prune/job.js';
import { type MeasuredModel, measureDense as measure } from '../../prune/measure-dense/measure-dense.js';
import { storeInMemory } from '../../removal/repair-linear.js';
import type { Stage } from '../job-context.js';

export interface MeasureInput {
  readonly job: Omit<PruneJob, 'store'>;
}

/**
 * Measures the dense model as far as the method needs it, once for all results; not for several shots, each of which measures
 * the result of the one before. @see measure
 */
export const measureDense: Stage<MeasureInput, MeasuredModel | undefined> = {
  name: 'measureDense',
  run: async (_, { job }) => (job.options.shots > 1 ? undefined : measure({ ...job, store: storeInMemory })),
};
