import { OptionError } from '../errors.js';
import type { PruneJob } from './job.js';
import { countLoss, describeUnpruned, type Loss, type Selection, UNITS } from './select-modules.js';

/** Heads, or experts, that may go where no more than that was asked for. */
const LARGEST_LOSS = 0.5;

/**
 * Refuses to take more than half of the heads, or experts, where half or less was asked for: when they bear the sparsity alone, since
 * all else remains, and leave in coarse steps. Who names modules has asked for it.
 * @throws OptionError
 */
export function refuseHeavyLoss(
  { modules, unpruned }: Pick<Selection, 'modules' | 'unpruned'>,
  options: Pick<PruneJob['options'], 'sparsity' | 'headUnit' | 'modulesNamed' | 'blockSparsity'>,
): void {
  const { sparsity, modulesNamed, blockSparsity } = options;
  const kind = modules[0]?.kind ?? 'ffn';
  if (kind === 'ffn' || unpruned.length === 0 || modulesNamed || blockSparsity.size > 0 || sparsity > LARGEST_LOSS)
    return;
  const isHeavy = ({ leaving, unitCount }: Loss) => leaving > LARGEST_LOSS * unitCount;
  const loss = countLoss(modules, options);
  if (!isHeavy(loss)) return;
  const percents = Array.from({ length: Math.ceil(100 * sparsity) }, (_, at) => at / 100);
  const lower = percents.findLast((fraction) => !isHeavy(countLoss(modules, { ...options, sparsity: fraction })));
  throw new OptionError(
    `sparsity ${sparsity} would take ${loss.leaving} of ${loss.unitCount} ${UNITS[kind]}, more than half: nothing else can be pruned ` +
      `(${describeUnpruned(unpruned)}); lower the sparsity to ${lower}, or choose modules "${kind}" to take them all the same`,
    { option: 'sparsity' },
  );
}
