import { NumericalError, OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import { type AllocationProblem, type ModuleMeasures, parametersOf, stepsOf } from './allocation.js';
import { freeHeadGroups } from './even-head-groups.js';
import { meetBudget } from './meet-budget.js';

/** How sparsities fall as a measure rises. */
export interface SpreadRule {
  /** Measure of a module: larger values are pruned less. Absent: all equally. */
  measureOf?(module: ModuleMeasures): number | undefined;
  /** Difference between the least and the most pruned module, at overall sparsity `s`. Default `s`. */
  width?(sparsity: number): number;
  /** Lowest and highest sparsity of a module, at overall sparsity `s`. Default 0 and the larger of `s` and 0.95. */
  range?(sparsity: number): readonly [number, number];
}

/** Above this, too little of a block remains for its scores to be meaningful. */
export const MAX_SPARSITY = 0.95;

/**
 * Spreads a sparsity over modules so that those with the larger measure lose less: sparsities fall linearly with it,
 * min-max scaled to the rule's width, are kept within its range and moved to the exact budget, by parameters. The rest
 * that skipped, fixed or full modules cannot absorb is distributed evenly over the others. Heads are few and large, so
 * that FFNs absorb their rounding, unless all modules must lose the same.
 *
 * @returns One sparsity per module.
 * @throws OptionError for a missing measure or a budget that cannot be met; NumericalError for a measure that is not
 *   finite.
 * @see FANG Eq. 8
 * @example
 * const sparingTheLast = { allocate: (problem) => spreadByMeasure(problem, { measureOf: ({ block }) => block }) };
 */
export function spreadByMeasure(problem: AllocationProblem, rule: SpreadRule = {}): Float64Array {
  const { sparsity, evenHeads, modules } = problem;
  if (!(sparsity >= 0 && sparsity < 1)) throw new OptionError(`sparsity is ${sparsity}; expected a number in [0, 1)`);
  const sparsities = spread(problem, rule);
  if (rule.measureOf === undefined) return sparsities;
  const groups = evenHeads ? [] : freeHeadGroups(problem);
  const headSparsity = (module: ModuleMeasures, own: number) => {
    const group = groups.find((members) => members.includes(module)) ?? [];
    const total = group.reduce((sum, member) => sum + sparsities[modules.indexOf(member)]!, 0);
    return group.length === 0 ? own : total / group.length;
  };
  const settled = modules.map((module, at) => {
    if (module.kind === 'ffn' || module.fixed !== undefined) return module;
    const wanted = evenHeads ? sparsity : headSparsity(module, sparsities[at]!);
    return { ...module, fixed: stepsOf(module, wanted) / module.stepCount };
  });
  if (settled.every((module, at) => module === modules[at])) return sparsities;
  const mean = (sparsityOf: (module: ModuleMeasures) => number) =>
    settled.reduce((sum, module) => sum + (sparsityOf(module) * module.parameterCount) / parametersOf(modules), 0);
  const [least, most] = [mean(({ fixed = 0 }) => fixed), mean((module) => module.fixed ?? highestSparsity(module))];
  const reachable = Math.min(most, Math.max(least, sparsity));
  return spread({ modules: settled, sparsity: reachable }, rule);
}

function spread(
  { modules, sparsity }: Pick<AllocationProblem, 'modules' | 'sparsity'>,
  { measureOf, width = (s) => s, range = (s) => [0, Math.max(s, MAX_SPARSITY)] }: SpreadRule,
): Float64Array {
  const free = modules.filter(({ fixed }) => fixed === undefined);
  const freeSparsity = sparsityLeftFor(free, { modules, sparsity });
  const measures = measureOf ? free.map((module) => checkedMeasure(module, measureOf(module))) : free.map(() => 0);
  const preferred = preferredSparsities(measures, freeSparsity, width(freeSparsity));
  const preferredOf = new Map(free.map((module, at) => [module, preferred[at]!]));
  const [lowest, highest] = range(freeSparsity);
  const slots = modules.map((module) => {
    const { parameterCount: weight, fixed } = module;
    if (fixed !== undefined) return { weight, preferred: fixed, lowest: fixed, highest: fixed };
    const top = Math.min(highest, highestSparsity(module));
    return { weight, preferred: preferredOf.get(module)!, lowest: Math.min(lowest, top), highest: top };
  });
  return meetBudget({ sparsity, slots });
}

/** Sparsity left for the modules that are not fixed, so that rules distribute only that; clamped to [0, 1]. */
function sparsityLeftFor(
  free: readonly ModuleMeasures[],
  { modules, sparsity }: Pick<AllocationProblem, 'modules' | 'sparsity'>,
): number {
  const target = modules.reduce((sum, { parameterCount, fixed = 0 }) => sum + parameterCount * (sparsity - fixed), 0);
  const weight = parametersOf(free);
  return weight > 0 ? Math.min(1, Math.max(0, target / weight)) : sparsity;
}

/** `s_l = s - (x'_l - mean x')` with `x'` the measure min-max scaled to the width; all equal means uniform. */
function preferredSparsities(measures: readonly number[], sparsity: number, width: number): number[] {
  const least = Math.min(...measures);
  const spread = Math.max(...measures) - least;
  const scaled = measures.map((measure) => (spread > 0 ? (width * (measure - least)) / spread : 0));
  const mean = sum(scaled) / scaled.length;
  return scaled.map((value) => sparsity - (value - mean));
}

/** Sparsity of a module at its minimum width, of at least one step. */
export const highestSparsity = ({ minimumKept, stepCount }: ModuleMeasures): number =>
  1 - Math.max(1, minimumKept) / stepCount;

function checkedMeasure({ block, kind }: ModuleMeasures, measure: number | undefined): number {
  if (measure === undefined)
    throw new OptionError(
      `block ${block} ${kind} lacks the measure that the allocation reads; name it in the allocation's measures`,
    );
  if (!Number.isFinite(measure))
    throw new NumericalError(`the measure of block ${block} ${kind} is ${measure}; expected a finite number`);
  return measure;
}
