import { checkBudget } from './check-budget.js';
import type { PruneJob } from './job.js';
import { hasBackwardPass, refuseGradients } from './measure-dense/measure-dense.js';
import { refuseHeavyLoss } from './refuse-heavy-loss.js';
import { selectModules } from './select-modules.js';
import { refuseHealing } from './shrink/heal.js';

/**
 * Refuses, before any token runs, what no measurement of the model could make possible: modules, budget, gradients and healing.
 * @param sparsities Sparsities of the results.
 * @param measures Whether the dense model is measured; it is not where statistics were saved.
 * @throws OptionError, UnsupportedModelError
 */
export function checkRun(
  job: Pick<PruneJob, 'model' | 'analysed' | 'options'>,
  sparsities: readonly number[] = [job.options.sparsity],
  measures = true,
): void {
  checkBudget(job, sparsities);
  const selection = selectModules(job);
  for (const sparsity of sparsities) refuseHeavyLoss(selection, { ...job.options, sparsity });
  if (measures && hasBackwardPass(job.options)) refuseGradients(job);
  if (job.options.heal !== undefined) refuseHealing(job);
}
