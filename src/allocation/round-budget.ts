import { OptionError } from '../errors.js';
import type { ModuleMeasures } from './allocation.js';

/** A module that loses a whole number of steps. */
export interface RoundingEntry
  extends Pick<ModuleMeasures, 'stepCount' | 'parametersPerStep'>,
    Partial<Pick<ModuleMeasures, 'minimumKept' | 'multiple'>> {
  /** Requested steps to remove, fractional. */
  readonly requested: number;
}

/**
 * Rounds fractional removals to numbers of steps: every module within one step (one multiple) of its request, and the
 * parameters removed in total within half a step (half a multiple) of the requested ones, by largest remainder. Of equal
 * remainders the earlier module loses the step. A module with a request of 0 keeps its width, even if it is no multiple.
 *
 * @returns Steps to remove per entry.
 * @throws OptionError when an entry must lose more than its floor allows.
 */
export function roundBudget(entries: readonly RoundingEntry[]): number[] {
  const choices = entries.map(neighbours);
  const counts = choices.map(({ fewer }) => fewer);
  let missing = 0;
  entries.forEach(({ requested, parametersPerStep }, index) => {
    missing += (requested - counts[index]!) * parametersPerStep;
  });
  const order = choices
    .map(({ fewer, more }, index) => ({
      index,
      fraction: more > fewer ? (entries[index]!.requested - fewer) / (more - fewer) : 0,
    }))
    .sort((a, b) => b.fraction - a.fraction || a.index - b.index);
  for (const { index, fraction } of order) {
    const { fewer, more } = choices[index]!;
    const cost = (more - fewer) * entries[index]!.parametersPerStep;
    if (fraction > 0 && 2 * missing >= cost) {
      counts[index] = more;
      missing -= cost;
    }
  }
  return counts;
}

/** The two allowed removals around the request; equal if the request is allowed. */
function neighbours(entry: RoundingEntry, index: number): { fewer: number; more: number } {
  const { stepCount, requested, minimumKept = 1, multiple = 1 } = entry;
  const exact = Math.round(requested);
  // Products of fractions and counts miss integers by rounding errors only.
  const wanted = Math.abs(requested - exact) < 1e-6 ? exact : requested;
  if (wanted === 0) return { fewer: 0, more: 0 };
  const smallest = Math.ceil(minimumKept / multiple) * multiple;
  const most = smallest <= stepCount ? stepCount - smallest : 0;
  const above = Math.ceil((stepCount - wanted) / multiple) * multiple;
  const below = Math.floor((stepCount - wanted) / multiple) * multiple;
  const fewer = Math.min(most, above > stepCount ? 0 : stepCount - above);
  const more = Math.min(most, stepCount - below);
  if (wanted > stepCount - Math.min(stepCount, minimumKept) + 1) {
    throw new OptionError(
      `module ${index} should lose ${requested.toFixed(2)} of ${stepCount} steps, but ${minimumKept} must stay; lower its sparsity`,
    );
  }
  return { fewer, more };
}
