import { type Allocation, type AllocationProblem, parametersOf, parametersOfSteps, stepsOf } from './allocation.js';
import { global } from './global.js';
import { meetBudget } from './meet-budget.js';
import { highestSparsity, spreadByMeasure } from './spread-by-measure.js';

/** Uniform sparsity, except that FFNs absorb the rounding of heads: else drafts would be compared at different budgets. */
const even: Allocation = { allocate: (problem) => spreadByMeasure(problem, { measureOf: () => 1 }) };

/** The mean of the threshold's sparsities and the even ones. */
const halfway: Allocation = {
  ...global,
  allocate(problem: AllocationProblem) {
    const { sparsity, modules } = problem;
    const [own, other] = [global.allocate(problem), even.allocate(problem)];
    const wishes = modules.map(({ fixed }, at) => fixed ?? (own[at]! + other[at]!) / 2);
    const places = modules.flatMap(({ kind, fixed }, at) => (kind === 'ffn' && fixed === undefined ? [at] : []));
    const ffns = places.map((at) => modules[at]!);
    const slots = places.map((at) => ({
      ...{ weight: modules[at]!.parameterCount, preferred: wishes[at]! },
      ...{ lowest: 0, highest: highestSparsity(modules[at]!) },
    }));
    const most = slots.reduce((sum, { weight, highest }) => sum + weight * highest, 0);
    const removed = modules.reduce(
      (sum, module, at) => (places.includes(at) ? sum : sum + parametersOfSteps(module, stepsOf(module, wishes[at]!))),
      0,
    );
    const left = Math.min(most, Math.max(0, sparsity * parametersOf(modules) - removed));
    const met = slots.length === 0 ? [] : meetBudget({ sparsity: left / parametersOf(ffns), slots });
    for (const [slot, at] of places.entries()) wishes[at] = met[slot]!;
    return wishes;
  },
};

export const compared: Allocation = {
  ...global,
  description:
    'the threshold of `global`, uniform pruning, or the mean of both: the one with the best predictions on held-out windows',
  paper: 'this library: docs/methods.md',
  candidates: { threshold: global, halfway, even },
};
