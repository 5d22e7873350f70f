import { NumericalError, OptionError } from '../errors.js';
import { type Allocation, type AllocationProblem, type ModuleMeasures, parametersOf, stepsOf } from './allocation.js';
import { freeHeadGroups } from './even-head-groups.js';
import { missedBudget } from './meet-budget.js';

export const global: Allocation = {
  description: 'one threshold on the cost of each removal per parameter, over all modules',
  paper: 'Everett, Operations Research 11 (1963): the Lagrangian form of optimal allocation',
  orderBy: ({ orderAdapter }) => orderAdapter,
  ordersDecide: true,
  removesEntireFfns: true,
  takesUnevenSteps: true,
  checkable: 'budget',
  allocate: allocateGlobally,
};

/** Where attention modules lose the same number of heads, their n-th steps are one entry with the sum of their costs. */
function allocateGlobally(problem: AllocationProblem): number[] {
  const { sparsity, modules } = problem;
  const joint = freeHeadGroups(problem);
  const single = modules.filter((module) => !joint.flat().includes(module)).map((module) => [module]);
  const groups = [...joint, ...single];
  const counts = allocateByThreshold(groups.map(joinEntries), sparsity);
  const found = new Map(groups.flatMap((group, at) => group.map((module) => [module, counts[at]!] as const)));
  return modules.map((module) => found.get(module)! / module.stepCount);
}

function joinEntries(group: readonly ModuleMeasures[]): ThresholdEntry {
  const [first] = group;
  if (group.length === 1) return entryOf(first!);
  const length = Math.min(...group.map(({ stepCount }) => stepCount));
  const sum = (pick: (module: ModuleMeasures) => number) => group.reduce((total, module) => total + pick(module), 0);
  return {
    costs: Float64Array.from({ length }, (_, step) => sum(({ order }) => order!.costs[step]!)),
    parametersPerStep: sum(({ parametersPerStep }) => parametersPerStep),
    parameterCount: parametersOf(group),
  };
}

const entryOf = (module: ModuleMeasures): ThresholdEntry => ({
  ...module,
  costs: module.order!.costs,
  fixed: module.fixed === undefined ? undefined : stepsOf(module, module.fixed),
});

/** A module whose steps compete with those of all others. */
export interface ThresholdEntry
  extends Pick<ModuleMeasures, 'parameterCount' | 'parametersPerStep'>,
    Partial<Pick<ModuleMeasures, 'minimumKept' | 'multiple' | 'stepParameters'>> {
  /** Cost of each successive step in removal order, in units comparable between entries; length = number of steps. */
  readonly costs: ArrayLike<number>;
  /** Steps that are removed regardless of their cost. */
  readonly fixed?: number | undefined;
}

/**
 * Meets a budget over all entries at the least cost: one threshold on the cost per removed parameter decides
 * everywhere. Costs that fall along an entry's order are raised to the highest before them, so that the cheapest prefixes
 * are removed. The budget is met to half the smallest step. Among steps of equal cost, the one whose entry has lost the
 * smaller share of its steps is removed first, so that entries shrink evenly; then that of the earlier entry.
 *
 * @param sparsity Fraction of the entries' parameters to remove, in [0, 1).
 * @returns Steps to remove per entry: the first of its order.
 * @throws OptionError when floors, multiples and fixed entries leave too little to remove; NumericalError for a cost
 *   that is not finite.
 * @see the Lagrangian form of optimal allocation: Everett, Operations Research 11 (1963)
 */
export function allocateByThreshold(entries: readonly ThresholdEntry[], sparsity: number): number[] {
  if (!(sparsity >= 0 && sparsity < 1)) throw new OptionError(`sparsity is ${sparsity}; expected a number in [0, 1)`);
  const total = parametersOf(entries);
  const counts = entries.map(({ fixed = 0 }) => fixed);
  let missing = sparsity * total - entries.reduce((sum, entry, at) => sum + counts[at]! * entry.parametersPerStep, 0);
  const slack = 1e-9 * total;
  const tooLarge = new Set<number>();
  const skipped: Chunk[] = [];
  for (const chunk of cheapestFirst(entries)) {
    if (tooLarge.has(chunk.entry)) continue;
    if (chunk.parameters <= missing + slack) {
      counts[chunk.entry]! += chunk.steps;
      missing -= chunk.parameters;
    } else {
      // A step that no longer fits leaves budget for smaller ones.
      tooLarge.add(chunk.entry);
      skipped.push(chunk);
    }
  }
  const last = skipped
    .filter(({ parameters }) => parameters <= 2 * missing)
    .sort((a, b) => a.parameters - b.parameters)[0];
  if (last !== undefined) {
    counts[last.entry]! += last.steps;
    missing -= last.parameters;
  }
  const finest = Math.min(...entries.map(({ parametersPerStep, multiple = 1 }) => parametersPerStep * multiple));
  if (skipped.length === 0 && 2 * missing > finest + slack) {
    const isFixed = entries.some(({ fixed }) => fixed !== undefined);
    throw missedBudget({ target: sparsity * total, missing, total, isFixed });
  }
  return counts;
}

/** Steps of one entry that are removed together. */
interface Chunk {
  readonly entry: number;
  readonly steps: number;
  readonly parameters: number;
  /** Cost per parameter, non-decreasing along an entry. */
  readonly density: number;
  /** Share of the entry's steps that is removed, with this chunk. */
  readonly share: number;
}

function cheapestFirst(entries: readonly ThresholdEntry[]): Chunk[] {
  const chunks = entries.flatMap((entry, at) => (entry.fixed === undefined ? chunksOf(entry, at) : []));
  return chunks.sort((a, b) => a.density - b.density || a.share - b.share || a.entry - b.entry);
}

function chunksOf(given: ThresholdEntry, entry: number): Chunk[] {
  const { costs, parametersPerStep, stepParameters, minimumKept = 1, multiple = 1 } = given;
  const stepCount = costs.length;
  const least = Math.ceil(minimumKept / multiple) * multiple;
  const chunks: Chunk[] = [];
  let highest = 0;
  let remaining = stepCount;
  while (remaining > least) {
    const next = Math.max(least, (Math.ceil(remaining / multiple) - 1) * multiple);
    let [cost, parameters] = [0, 0];
    for (let at = stepCount - remaining; at < stepCount - next; at++) {
      cost += checkedCost(costs[at], entry, at);
      parameters += stepParameters?.[at] ?? parametersPerStep;
    }
    highest = Math.max(highest, cost / parameters);
    chunks.push({ entry, steps: remaining - next, parameters, density: highest, share: 1 - next / stepCount });
    remaining = next;
  }
  return chunks;
}

function checkedCost(cost: number | undefined, entry: number, step: number): number {
  if (cost !== undefined && Number.isFinite(cost)) return cost;
  throw new NumericalError(`step ${step} of module ${entry} costs ${cost}; costs must be finite`);
}
