import type { PrunableModule } from '../architecture/layout.js';
import { refusal } from '../options/option.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import { allocateModules } from './allocate-modules.js';
import type { PruneJob } from './job.js';
import type { DenseMeasures } from './measure-dense/dense-measures.js';
import type { NeuronOrder } from './measure-dense/order-units.js';
import { takesNeurons } from './mixture-steps.js';
import { selectModules } from './select-modules.js';

/**
 * Refuses what no measurement of the model could make possible, before it begins: a budget that floors and fixed blocks
 * leave no room for, and uneven head counts.
 *
 * @param sparsities What the model will be pruned to. Default: what the options say.
 * @throws OptionError, UnsupportedModelError
 */
export function checkBudget(
  { analysed, options }: Pick<PruneJob, 'analysed' | 'options'>,
  sparsities: readonly number[] = [options.sparsity],
): void {
  const { modules } = selectModules({ analysed, options });
  checkWidthMultiple(modules, options.widthMultiple);
  // Several shots get there by roundings of their own.
  const { checkable } = options.allocation;
  if (options.shots > 1 || checkable === undefined) return;
  const perBlockKvHeads = options.perBlockKvHeads || checkable === 'budget';
  const alike = measureAlike(modules, analysed.detected.layout.blockCount, options);
  for (const sparsity of sparsities) allocateModules({ ...options, sparsity, perBlockKvHeads }, modules, alike);
}

/** @throws OptionError where no FFN is as wide: all would remain as they are. */
function checkWidthMultiple(modules: readonly PrunableModule[], widthMultiple: number): void {
  const widths = modules.filter(({ kind }) => kind === 'ffn').map(({ unitCount }) => unitCount);
  const widest = Math.max(...widths);
  if (widths.length > 0 && widthMultiple > widest)
    throw refusal('widthMultiple', `is ${widthMultiple}; expected at most ${widest}, the width of the widest FFN`);
}

/** Neurons inside experts that all cost nothing. */
export const zeroNeurons = ({ unitCount, neurons }: PrunableModule): NeuronOrder => {
  const zeros = () => new Float64Array(unitCount * neurons!.unitCount);
  return { scores: zeros(), costs: zeros() };
};

/** A look that finds all blocks and units alike: whether budgets can be met does not depend on what it finds. */
function measureAlike(
  modules: readonly PrunableModule[],
  blockCount: number,
  options: PruneJob['options'],
): DenseMeasures {
  const orderOf = (module: PrunableModule) => ({
    scores: new Float64Array(module.unitCount),
    costs: new Float64Array(shrinkSteps(module, options.headUnit).stepCount),
    ...(takesNeurons(module, options) && { neurons: zeroNeurons(module) }),
  });
  return {
    blockChange: new Float64Array(blockCount),
    sensitivity: new Float64Array(blockCount),
    functional: new Map(),
    orders: new Map(modules.map((module) => [module, orderOf(module)])),
  };
}
