import type { PruneJob } from '../prune/job.js';
import { type MeasuredModel, measureDense as measure } from '../prune/measure-dense/measure-dense.js';
import { storeInMemory } from '../removal/repair-linear.js';
import type { Stage } from './job-context.js';

export interface MeasureInput {
  readonly job: Omit<PruneJob, 'store'>;
}

/**
 * Measures the dense model as the method needs, once for all results; several shots measure in each round instead.
 * @see measure
 */
export const measureDense: Stage<MeasureInput, MeasuredModel | undefined> = {
  name: 'measureDense',
  run: async (_, { job }) => (job.options.shots > 1 ? undefined : measure({ ...job, store: storeInMemory })),
};
