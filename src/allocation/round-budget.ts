import { OptionError } from '../errors.js';

/** A module that must lose a whole number of units. */
export interface RoundingEntry {
  readonly unitCount: number;
  /** Units it should lose, fractional: block sparsity times `unitCount`. */
  readonly requested: number;
  /** Prunable parameters that leave with one unit. */
  readonly parametersPerUnit: number;
  /** Units that stay in any case. Default 1. */
  readonly minimumKept?: number | undefined;
  /** Width kept is a multiple of this, or the whole width. Default 1. */
  readonly widthMultiple?: number | undefined;
}

/**
 * Turns fractional removals into whole units: every module within one unit (one multiple) of its request, and the
 * parameters removed in total within half a unit (half a multiple) of what was asked for, by largest remainder. Of equal
 * remainders the earlier module loses the unit. A module asked for nothing keeps its width, multiple or not.
 *
 * @returns Units to remove per entry.
 * @throws OptionError when an entry is asked for more than its floor lets go, or a field is out of range.
 */
export function roundBudget(entries: readonly RoundingEntry[]): number[] {
  const choices = entries.map(neighbours);
  const counts = choices.map(({ fewer }) => fewer);
  let missing = 0;
  entries.forEach(({ requested, parametersPerUnit }, index) => {
    missing += (requested - counts[index]!) * parametersPerUnit;
  });
  const order = choices
    .map(({ fewer, more }, index) => ({
      index,
      fraction: more > fewer ? (entries[index]!.requested - fewer) / (more - fewer) : 0,
    }))
    .sort((a, b) => b.fraction - a.fraction || a.index - b.index);
  for (const { index, fraction } of order) {
    const { fewer, more } = choices[index]!;
    const cost = (more - fewer) * entries[index]!.parametersPerUnit;
    if (fraction > 0 && 2 * missing >= cost) {
      counts[index] = more;
      missing -= cost;
    }
  }
  return counts;
}

/** The two allowed removals around the request; equal when the request is allowed itself. */
function neighbours(entry: RoundingEntry, index: number): { fewer: number; more: number } {
  const { unitCount, requested, minimumKept = 1, widthMultiple = 1 } = entry;
  checkEntry(entry, index);
  const exact = Math.round(requested);
  // Products of fractions and counts miss whole numbers by rounding errors only.
  const wish = Math.abs(requested - exact) < 1e-6 ? exact : requested;
  if (wish === 0) return { fewer: 0, more: 0 };
  const smallestKept = Math.ceil(minimumKept / widthMultiple) * widthMultiple;
  const most = smallestKept <= unitCount ? unitCount - smallestKept : 0;
  const keptAbove = Math.ceil((unitCount - wish) / widthMultiple) * widthMultiple;
  const keptBelow = Math.floor((unitCount - wish) / widthMultiple) * widthMultiple;
  const fewer = Math.min(most, keptAbove > unitCount ? 0 : unitCount - keptAbove);
  const more = Math.min(most, unitCount - keptBelow);
  if (wish > unitCount - Math.min(unitCount, minimumKept) + 1) {
    throw new OptionError(
      `module ${index} should lose ${requested.toFixed(2)} of ${unitCount} units, but ${minimumKept} must stay: ` +
        'lower its sparsity or give it a maximum when allocating',
    );
  }
  return { fewer, more };
}

function checkEntry(
  { unitCount, requested, parametersPerUnit, minimumKept = 1, widthMultiple = 1 }: RoundingEntry,
  index: number,
): void {
  const wholeNumbers = { unitCount, minimumKept };
  for (const [name, value] of Object.entries(wholeNumbers)) {
    if (!Number.isInteger(value) || value < 0)
      throw new OptionError(`${name} of module ${index} is ${value}; expected a whole number of at least 0`);
  }
  if (!Number.isInteger(widthMultiple) || widthMultiple < 1) {
    throw new OptionError(`widthMultiple is ${widthMultiple}; expected a whole number of at least 1`);
  }
  if (!(requested >= -1e-6 && requested <= unitCount + 1e-6)) {
    throw new OptionError(`module ${index} should lose ${requested} of ${unitCount} units; expected 0..${unitCount}`);
  }
  if (!(Number.isFinite(parametersPerUnit) && parametersPerUnit >= 0)) {
    throw new OptionError(
      `parametersPerUnit of module ${index} is ${parametersPerUnit}; expected a number of at least 0`,
    );
  }
}
