import type { PrunableModule } from '../architecture/layout.js';
import { refusal } from '../options/option.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import { allocateModules } from './allocate-modules.js';
import { refuseHealing } from './heal.js';
import type { PruneJob } from './job.js';
import { refuseGradients } from './measure-dense/measure-dense.js';
import type { ModuleRemovalOrder, NeuronOrder } from './measure-dense/order-units.js';
import { mayRemoveNeurons } from './mixture-steps.js';
import { refuseHeavyLoss, selectModules } from './select-modules.js';

/**
 * Refuses impossible requests before any token runs: modules, budget, gradients and healing that no measurement can allow.
 * @param sparsities Sparsities of the results.
 * @param measures Whether the dense model is measured; it is not where statistics were saved.
 * @throws OptionError, UnsupportedModelError
 */
export function checkRun(
  job: Pick<PruneJob, 'model' | 'analysed' | 'options'>,
  sparsities: readonly number[] = [job.options.sparsity],
  measures = true,
): void {
  const selection = selectModules(job);
  checkBudget(job, selection.modules, sparsities);
  for (const sparsity of sparsities) refuseHeavyLoss(selection, { ...job.options, sparsity });
  if (measures) refuseGradients(job, selection.modules);
  if (job.options.heal !== undefined) refuseHealing(job);
}

/**
 * Refuses a budget that minimum widths and fixed blocks make impossible, and uneven head counts.
 * @param sparsities Sparsities of the results. Default: that of the options.
 * @throws OptionError, UnsupportedModelError
 */
export function checkBudget(
  { analysed, options }: Pick<PruneJob, 'analysed' | 'options'>,
  modules: readonly PrunableModule[],
  sparsities: readonly number[] = [options.sparsity],
): void {
  checkWidthMultiple(modules, options.widthMultiple);
  // Every shot rounds its own budget.
  const { checkable } = options.allocation;
  if (options.shots > 1 || checkable === undefined) return;
  const perBlockKvHeads = options.perBlockKvHeads || checkable === 'budget';
  const { blockCount } = analysed.detected.layout;
  // Whether budgets can be met does not depend on the measures.
  const placeholders = {
    blockChange: new Float64Array(blockCount),
    sensitivity: new Float64Array(blockCount),
    functional: new Map(),
    orders: zeroOrders(modules, options),
  };
  for (const sparsity of sparsities) allocateModules({ ...options, sparsity, perBlockKvHeads }, modules, placeholders);
}

/** @throws OptionError if all FFNs are narrower, so that none could be pruned. */
function checkWidthMultiple(modules: readonly PrunableModule[], widthMultiple: number): void {
  const widths = modules.filter(({ kind }) => kind === 'ffn').map(({ unitCount }) => unitCount);
  const widest = Math.max(...widths);
  if (widths.length > 0 && widthMultiple > widest)
    throw refusal('widthMultiple', `is ${widthMultiple}; expected at most ${widest}, the width of the widest FFN`);
}

/** Removal orders with all costs 0. */
export const zeroOrders = (
  modules: readonly PrunableModule[],
  options: PruneJob['options'],
): Map<PrunableModule, ModuleRemovalOrder> =>
  new Map(
    modules.map((module) => [
      module,
      {
        scores: new Float64Array(module.unitCount),
        costs: new Float64Array(shrinkSteps(module, options.headUnit).stepCount),
        ...(mayRemoveNeurons(module, options) && { neurons: zeroCostNeurons(module) }),
      },
    ]),
  );

const zeroCostNeurons = ({ unitCount, neurons }: PrunableModule): NeuronOrder => {
  const zeros = () => new Float64Array(unitCount * neurons!.unitCount);
  return { scores: zeros(), costs: zeros() };
};
