import { OptionError } from '../errors.js';
import { findNonFinite } from '../linalg/matrix-block.js';
import { sum } from '../linalg/sum.js';
import { evenCount } from './allocate-steps.js';
import { type Allocation, type AllocationProblem, type ModuleMeasures, stepsOf } from './allocation.js';
import { freeHeadGroups } from './even-head-groups.js';
import { missedBudget } from './meet-budget.js';
import { roundBudget } from './round-budget.js';

export const standardised: Allocation = {
  description: 'one threshold on scores that are standardised within each module',
  paper: 'FLAP (arXiv 2312.11983), AL-AM',
  orderBy: ({ adapter }) => adapter,
  checkable: 'budget',
  allocate: allocateByScores,
};

/** Modules without a fixed sparsity make up for the others, and FFNs for the rounding of attention with equal head counts. */
function allocateByScores(problem: AllocationProblem): number[] {
  const { sparsity, modules } = problem;
  const set = new Map<ModuleMeasures, number>();
  for (const module of modules) if (module.fixed !== undefined) set.set(module, stepsOf(module, module.fixed));
  const competing = modules.filter((module) => !set.has(module));
  const left = sparsityLeft(sparsity, modules, set);
  if (left >= 1) {
    throw new OptionError(
      `sparsity ${sparsity} needs ${(100 * left).toFixed(1)} % of the modules that are neither skipped nor fixed to be removed; lower the sparsity or fix fewer blocks`,
    );
  }
  const counts = allocateStandardised(competing.map(entryOf), left);
  for (const group of freeHeadGroups(problem)) {
    const evenSteps = evenCount(group.map((module) => counts[competing.indexOf(module)]!));
    for (const module of group) set.set(module, evenSteps);
  }
  const free = modules.filter((module) => !set.has(module));
  const freeCounts = allocateStandardised(free.map(entryOf), Math.min(sparsityLeft(sparsity, modules, set), 0.99));
  const rounded = roundBudget(free.map((module, at) => ({ ...module, requested: freeCounts[at]! })));
  free.forEach((module, at) => {
    set.set(module, rounded[at]!);
  });
  return modules.map((module) => set.get(module)! / module.stepCount);
}

const entryOf = (module: ModuleMeasures): StandardisedEntry => ({ ...module, scores: module.order!.costs });

/** Sparsity of the modules whose steps are not set yet that meets the overall one; may exceed 1. */
function sparsityLeft(
  sparsity: number,
  modules: readonly ModuleMeasures[],
  set: ReadonlyMap<ModuleMeasures, number>,
): number {
  let budget = 0;
  let unset = 0;
  for (const module of modules) {
    const { stepCount, parametersPerStep } = module;
    budget += (sparsity * stepCount - (set.get(module) ?? 0)) * parametersPerStep;
    if (!set.has(module)) unset += stepCount * parametersPerStep;
  }
  return unset === 0 ? 0 : Math.max(0, budget / unset);
}

/** A module whose units compete with all others. */
export interface StandardisedEntry
  extends Pick<ModuleMeasures, 'parametersPerStep'>,
    Partial<Pick<ModuleMeasures, 'minimumKept'>> {
  /** Importance of each unit, larger is kept. */
  readonly scores: ArrayLike<number>;
}

/**
 * FLAP's global threshold (AL-AM): scores are standardised within each module, then the lowest of all modules are removed
 * until the removed parameters are nearest to the budget. Units count by their parameters: one head as much as many
 * neurons. Among units with equal scores, the one whose module has lost the smaller share of its units is removed first,
 * so that modules shrink evenly; then that of the earlier module.
 *
 * @param sparsity Fraction of the entries' unit parameters to remove, in [0, 1).
 * @returns Units to remove per entry: its lowest scores.
 * @throws OptionError when the floors leave too little to remove, or a score is not finite.
 * @see FLAP (An et al., AAAI 2024, arXiv 2312.11983), section 3.3
 */
export function allocateStandardised(entries: readonly StandardisedEntry[], sparsity: number): number[] {
  if (!(sparsity >= 0 && sparsity < 1)) throw new OptionError(`sparsity is ${sparsity}; expected a number in [0, 1)`);
  const total = entries.reduce((sum, { scores, parametersPerStep }) => sum + scores.length * parametersPerStep, 0);
  const budget = sparsity * total;
  const counts = entries.map(() => 0);
  let removed = 0;
  const take = ({ entry, parameters }: Candidate) => {
    counts[entry]!++;
    removed += parameters;
  };
  const skipped: Candidate[] = [];
  for (const candidate of lowestFirst(entries)) {
    // After a head that no longer fits, neurons can still fill the budget.
    if (candidate.parameters <= budget - removed + 1e-9 * total) take(candidate);
    else skipped.push(candidate);
  }
  const last = skipped.find(({ parameters }) => parameters <= 2 * (budget - removed));
  if (last !== undefined) take(last);
  const coarsest = Math.max(0, ...entries.map(({ parametersPerStep }) => parametersPerStep));
  if (budget - removed > coarsest) {
    throw missedBudget({ target: budget, missing: budget - removed, total, isFixed: false });
  }
  return counts;
}

interface Candidate {
  readonly entry: number;
  readonly score: number;
  /** Share of the entry's units that is removed, with this one. */
  readonly share: number;
  readonly parameters: number;
}

/** Removable units of all entries by rising standardised score. */
function lowestFirst(entries: readonly StandardisedEntry[]): Candidate[] {
  const candidates = entries.flatMap(({ scores, parametersPerStep, minimumKept = 1 }, entry) => {
    const sorted = standardise(scores, entry).sort();
    const removable = sorted.subarray(0, Math.max(0, sorted.length - minimumKept));
    return Array.from(removable, (score, at) => ({
      entry,
      score,
      parameters: parametersPerStep,
      share: (at + 1) / sorted.length,
    }));
  });
  return candidates.sort((a, b) => a.score - b.score || a.share - b.share || a.entry - b.entry);
}

/** `(x - mean) / standard deviation`; all equal gives zeros. */
function standardise(scores: ArrayLike<number>, entry: number): Float64Array {
  const values = Float64Array.from(scores);
  const invalid = findNonFinite(values);
  if (invalid >= 0)
    throw new OptionError(
      `the score of unit ${invalid} in module ${entry} is ${values[invalid]}; scores must be finite`,
    );
  // Rounding would make the deviation of equal numbers nonzero.
  if (values.every((value) => value === values[0])) return values.fill(0);
  const mean = sum(values) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const deviation = Math.sqrt(squares / Math.max(1, values.length - 1));
  return values.map((value) => (value - mean) / deviation);
}
