import { NumericalError, OptionError } from '../errors.js';
import {
  ALLOCATION_RULES,
  type AllocationRule,
  type AllocationRuleName,
  type BlockMeasure,
} from './allocation-rules.js';
import { meetBudget } from './meet-budget.js';

/** A block (or one module of it) that sparsity is allocated to. */
export interface AllocationEntry extends Readonly<Partial<Record<BlockMeasure, number>>> {
  /** Prunable parameters, at least 0. */
  readonly parameterCount: number;
  /** Sparsity the user fixed, in [0, 1); 0 for a skipped block. */
  readonly fixed?: number | undefined;
  /** Highest sparsity it can take, in [0, 1], where floors of kept units say less than the rule allows. Default 1. */
  readonly maximum?: number | undefined;
}

export interface AllocationInput {
  readonly rule: AllocationRuleName;
  /** Overall fraction of the entries' parameters to remove, in [0, 1). */
  readonly sparsity: number;
  readonly entries: readonly AllocationEntry[];
}

/**
 * Spreads an overall sparsity over blocks by a named rule. The mean, weighted by parameters, is exactly `sparsity`:
 * what skipped, fixed or full blocks cannot take is moved evenly to the others.
 *
 * @returns One sparsity per entry.
 * @throws OptionError for an unknown rule, a missing measure or a budget that the entries cannot meet; NumericalError
 *   for a measure that is not finite.
 * @see FANG Eq. 8 (rule `adaptive`)
 */
export function allocateSparsity({ rule, sparsity, entries }: AllocationInput): Float64Array {
  if (!Object.hasOwn(ALLOCATION_RULES, rule)) {
    throw new OptionError(
      `unknown allocation ${JSON.stringify(rule)}; expected one of ${Object.keys(ALLOCATION_RULES).join(', ')}`,
    );
  }
  if (!(sparsity >= 0 && sparsity < 1)) throw new OptionError(`sparsity is ${sparsity}; expected a number in [0, 1)`);
  for (const [index, entry] of entries.entries()) checkEntry(entry, index);
  const row: AllocationRule = ALLOCATION_RULES[rule];
  const free = entries.filter(({ fixed }) => fixed === undefined);
  const freeSparsity = sparsityLeftFor(free, sparsity, entries);
  const preferred = preferredSparsities(row, freeSparsity, free);
  const wishes = new Map(free.map((entry, index) => [entry, preferred[index]!]));
  const [lowest, highest] = row.range(freeSparsity);
  const slots = entries.map((entry) => {
    const { parameterCount: weight, fixed, maximum = 1 } = entry;
    if (fixed !== undefined) return { weight, preferred: fixed, lowest: fixed, highest: fixed };
    const top = Math.min(highest, maximum);
    return { weight, preferred: wishes.get(entry)!, lowest: Math.min(lowest, top), highest: top };
  });
  return meetBudget({ sparsity, slots });
}

/** What the entries that are not fixed must lose, so that rules can spread just that; kept in [0, 1]. */
function sparsityLeftFor(
  free: readonly AllocationEntry[],
  sparsity: number,
  entries: readonly AllocationEntry[],
): number {
  const target = entries.reduce((sum, { parameterCount, fixed = 0 }) => sum + parameterCount * (sparsity - fixed), 0);
  const weight = free.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  return weight > 0 ? Math.min(1, Math.max(0, target / weight)) : sparsity;
}

/** `s_l = s - (x'_l - mean x')` with `x'` the measure min-max scaled to the rule's width; all equal means uniform. */
function preferredSparsities(
  { measure, width }: AllocationRule,
  sparsity: number,
  entries: readonly AllocationEntry[],
): number[] {
  if (measure === undefined) return entries.map(() => sparsity);
  const values = entries.map((entry) => measured(entry, measure));
  const least = Math.min(...values);
  const spread = Math.max(...values) - least;
  const scaled = values.map((value) => (spread > 0 ? (width(sparsity) * (value - least)) / spread : 0));
  const mean = scaled.reduce((sum, value) => sum + value, 0) / scaled.length;
  return scaled.map((value) => sparsity - (value - mean));
}

function measured(entry: AllocationEntry, measure: BlockMeasure): number {
  const value = entry[measure];
  if (value === undefined)
    throw new OptionError(`this allocation rule needs the ${measure} of every block; one has none`);
  if (!Number.isFinite(value))
    throw new NumericalError(`the ${measure} of a block is ${value}; expected a finite number`);
  return value;
}

function checkEntry({ parameterCount, fixed, maximum }: AllocationEntry, index: number): void {
  if (!(Number.isFinite(parameterCount) && parameterCount >= 0)) {
    throw new OptionError(`entry ${index} has ${parameterCount} parameters; expected a number of at least 0`);
  }
  if (fixed !== undefined && !(fixed >= 0 && fixed < 1)) {
    throw new OptionError(`the sparsity fixed for block ${index} is ${fixed}; expected a number in [0, 1)`);
  }
  if (maximum !== undefined && !(maximum >= 0 && maximum <= 1)) {
    throw new OptionError(`the highest sparsity of block ${index} is ${maximum}; expected a number in [0, 1]`);
  }
}
