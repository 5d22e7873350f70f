import { OptionError } from '../errors.js';

/** One module's part of a budget: its preferred sparsity and bounds. */
export interface BudgetSlot {
  /** Its part of the whole, such as a parameter count; at least 0. */
  readonly weight: number;
  readonly preferred: number;
  readonly lowest: number;
  readonly highest: number;
}

/**
 * Moves all preferred sparsities by one common amount, each kept within its bounds, so that their weighted mean is
 * exactly `sparsity`. Slots at a bound keep it, and the others share the remaining budget.
 *
 * @returns One sparsity per slot.
 * @throws OptionError when even all lowest or all highest values miss the budget, saying by how much.
 */
export function meetBudget({
  sparsity,
  slots,
}: {
  readonly sparsity: number;
  readonly slots: readonly BudgetSlot[];
}): Float64Array {
  const total = slots.reduce((sum, { weight }) => sum + weight, 0);
  const target = sparsity * total;
  const spent = (shift: number) => slots.reduce((sum, slot) => sum + slot.weight * bounded(slot, shift), 0);
  // What is spent is piecewise linear in the shift, with a bend where a slot reaches a bound.
  const bends = slots.flatMap(({ preferred, lowest, highest }) => [lowest - preferred, highest - preferred]);
  bends.sort((a, b) => a - b);
  const least = spent(bends[0] ?? 0);
  const most = spent(bends.at(-1) ?? 0);
  const slack = 1e-9 * total;
  const isFixed = slots.some(({ weight, lowest, highest }) => weight > 0 && lowest === highest);
  const missing = target - Math.min(most, Math.max(least, target));
  if (Math.abs(missing) > slack) throw missedBudget({ target, missing, total, isFixed });
  const upper = bends.findIndex((bend) => spent(bend) >= target);
  const high = bends[upper === -1 ? bends.length - 1 : upper] ?? 0;
  const low = bends[Math.max(0, upper - 1)] ?? high;
  const [below, above] = [spent(low), spent(high)];
  const shift = above > below ? low + ((high - low) * (target - below)) / (above - below) : high;
  return Float64Array.from(slots, (slot) => bounded(slot, Math.min(high, Math.max(low, shift))));
}

function bounded({ preferred, lowest, highest }: BudgetSlot, shift: number): number {
  return Math.min(highest, Math.max(lowest, preferred + shift));
}

/** A budget that cannot be met. */
interface MissedBudget {
  /** Parameters that should be removed. */
  readonly target: number;
  /** `target` minus the nearest possible removal. */
  readonly missing: number;
  readonly total: number;
  /** Whether some blocks are skipped or have a sparsity of their own. */
  readonly isFixed: boolean;
}

/** The error for a budget that cannot be met: what can be removed, and the remedy. */
export function missedBudget({ target, missing, total, isFixed }: MissedBudget): OptionError {
  const isTooFew = missing > 0;
  // Rounded so that the printed limit can be met.
  const round = isTooFew ? Math.floor : Math.ceil;
  const percent = (count: number) => `${(round((1e4 * count) / total) / 100).toFixed(2)} %`;
  const limit = percent(target - missing);
  const [bound, remedy] = isTooFew
    ? [`at most ${limit} can be`, `few; lower the sparsity${isFixed ? ' or fix fewer blocks' : ''}`]
    : [`at least ${limit} are`, 'many; raise the sparsity or lower the fixed values'];
  return new OptionError(
    `the requested sparsity removes ${percent(target)} of the prunable parameters, but with the blocks skipped or fixed ` +
      `and the units that must remain, ${bound} removed, ${Math.ceil(Math.abs(missing))} parameters too ${remedy}`,
  );
}
