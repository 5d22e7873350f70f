import { type ResolvedOptions, removesNothing } from '../options.js';
import { allocateModules } from './allocate-modules.js';
import { checkBudget } from './check-run.js';
import { chooseAllocation, remarkCandidates } from './choose-allocation.js';
import { joinTimings, type PruneJob, type PruneOutcome } from './job.js';
import { type MeasuredModel, measureDense } from './measure-dense/measure-dense.js';
import { startContext } from './prune-context.js';
import { pruneInShots } from './prune-in-shots.js';
import type { Refinement } from './refinement.js';
import { REFINEMENTS } from './refinements.js';
import { selectModules } from './select-modules.js';
import { shrinkBlocks } from './shrink-blocks.js';

/** Extension points of a caller, besides the options. */
export interface PruneExtras {
  /**
   * Changes of weights after units were removed. Default `REFINEMENTS`, the library's own.
   * @example
   * await pruneModel(job, { refinements: [...REFINEMENTS, myOwn] });
   */
  readonly refinements?: readonly Refinement[] | undefined;
}

/**
 * Prunes a model: measures the dense model for the method, allocates the sparsity, and prunes the blocks; with several shots,
 * several times. The given model is not changed. Saving the result throws a NumericalError if a weight that no stage read has
 * a NaN.
 */
export async function pruneModel(job: PruneJob, extras: PruneExtras = {}): Promise<PruneOutcome> {
  checkBudget(job, selectModules(job).modules);
  const pruneOnce = async (round: PruneJob): Promise<PruneOutcome> => {
    const measured = await measureDense(round);
    try {
      return await pruneMeasured(measured, extras);
    } finally {
      await measured.dispose();
    }
  };
  return job.options.shots === 1 ? pruneOnce(job) : pruneInShots(job, pruneOnce);
}

/** Settings of one of several results from the same measurements. */
export interface MeasuredResult
  extends PruneExtras,
    Partial<Pick<PruneJob, 'store'> & Pick<ResolvedOptions, 'sparsity' | 'allocation'>> {
  /** Number of results before it, for the names of checkpoints. Default 0. */
  readonly index?: number | undefined;
}

/** Prunes a measured model; `sparsity` may differ from the one it was measured for. */
export async function pruneMeasured(
  measured: MeasuredModel,
  { index = 0, refinements = REFINEMENTS, ...result }: MeasuredResult = {},
): Promise<PruneOutcome> {
  const { modules, dense } = measured;
  const { store = measured.job.store, sparsity = measured.job.options.sparsity } = result;
  const journal = measured.job.journal?.within(`result-${index}`);
  const { allocation = measured.job.options.allocation } = result;
  const job = { ...measured.job, store, journal, options: { ...measured.job.options, sparsity, allocation } };
  const began = performance.now();
  const chosen = await chooseAllocation(measured, job);
  const choosing = { stage: 'candidates', ms: performance.now() - began };
  const options = { ...job.options, allocation: chosen.allocation };
  const context = startContext({ ...job, options });
  try {
    const counts = allocateModules(options, modules, dense);
    const shrunk = await shrinkBlocks(context, { ...measured, counts, refinements });
    const timings = joinTimings(measured.timings, chosen.candidates ? [choosing] : [], context.timings());
    // Measuring and pruning factorise the same curvature.
    const { candidates } = chosen;
    const found = candidates ? [remarkCandidates(candidates)] : [];
    const remarks = [...new Set([...(removesNothing(options) ? [] : measured.remarks), ...found, ...context.remarks])];
    return { ...shrunk, ...context.findings, dense, ...(candidates && { candidates }), timings, remarks };
  } finally {
    await context.dispose();
  }
}
