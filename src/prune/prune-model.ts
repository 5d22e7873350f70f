import type { ResolvedOptions } from '../options.js';
import { allocateModules } from './budget/allocate-modules.js';
import { checkBudget } from './budget/check-budget.js';
import { joinTimings, type PruneJob, type PruneOutcome } from './job.js';
import { type MeasuredModel, measureDense } from './measure-dense/measure-dense.js';
import { startContext } from './prune-context.js';
import { pruneInShots } from './prune-in-shots.js';
import { REFINEMENTS } from './refine/refinements.js';
import { shrinkBlocks } from './shrink-blocks.js';

/**
 * Stages of pruning a model, in their order. A caller may give others in their place.
 * @example
 * await pruneModel(job, { refinements: [...PRUNE_STAGES.refinements, myOwn] });
 */
export const PRUNE_STAGES = {
  /** Looks at the dense model as far as the options need it. */
  measureDense,
  /** From one sparsity to the steps that every module loses. */
  allocate: allocateModules,
  /** Takes them out, block by block, and makes up for them. */
  shrinkBlocks,
  /** Done to weights once units are gone. */
  refinements: REFINEMENTS,
};

export type PruneStages = typeof PRUNE_STAGES;

/**
 * Prunes a model. The dense model is measured as far as the method needs it, the sparsity is spread, and the blocks shrink;
 * with several shots all of that happens several times. The model given stays as it is. Saving the result raises a
 * NumericalError where a weight that no stage read holds NaN.
 */
export async function pruneModel(job: PruneJob, stages: Partial<PruneStages> = {}): Promise<PruneOutcome> {
  checkBudget(job);
  const pruneOnce = async (round: PruneJob): Promise<PruneOutcome> => {
    const measured = await (stages.measureDense ?? measureDense)(round);
    try {
      return await pruneMeasured(measured, {}, stages);
    } finally {
      await measured.dispose();
    }
  };
  return job.options.shots === 1 ? pruneOnce(job) : pruneInShots(job, pruneOnce);
}

/** One of the results that are made from one look. */
export interface MeasuredResult extends Partial<Pick<PruneJob, 'store'> & Pick<ResolvedOptions, 'sparsity'>> {
  /** How many came before it, for the progress. Default 0. */
  readonly index?: number | undefined;
}

/** Prunes a model that was measured; `sparsity` may differ from the one it was measured for. */
export async function pruneMeasured(
  measured: MeasuredModel,
  { sparsity = measured.job.options.sparsity, store = measured.job.store, index = 0 }: MeasuredResult = {},
  stages: Partial<PruneStages> = {},
): Promise<PruneOutcome> {
  const { modules, dense, passes } = measured;
  const { allocate, shrinkBlocks: shrink, refinements } = { ...PRUNE_STAGES, ...stages };
  const job = { ...measured.job, store, options: { ...measured.job.options, sparsity } };
  const context = startContext(job, { all: passes.all, before: passes.dense + index * passes.each });
  try {
    const counts = allocate(job.options, modules, dense);
    const shrunk = await shrink(context, { ...measured, counts, refinements });
    const timings = joinTimings(measured.timings, context.timings());
    // Measuring and pruning factorise the same curvature.
    return { ...shrunk, dense, timings, remarks: [...new Set([...measured.remarks, ...context.remarks])] };
  } finally {
    await context.dispose();
  }
}
