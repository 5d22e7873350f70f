import { type Allocation, type AllocationProblem, parametersOf, parametersOfSteps, stepsOf } from './allocation.js';
import { global } from './global.js';
import { meetBudget } from './meet-budget.js';
import { highestSparsity, spreadByMeasure } from './spread-by-measure.js';

/** Uniform sparsity, with FFNs absorbing the rounding of heads: otherwise drafts would be compared at different budgets. */
const even: Allocation = { allocate: (problem) => spreadByMeasure(problem, { measureOf: () => 1 }) };

/** Mean of the threshold's sparsities and the uniform ones. FFNs absorb the rounding of the other modules. */
const halfway: Allocation = {
  ...global,
  allocate(problem: AllocationProblem) {
    const { sparsity, modules } = problem;
    const [own, other] = [global.allocate(problem), even.allocate(problem)];
    const sparsities = modules.map(({ fixed }, at) => fixed ?? (own[at]! + other[at]!) / 2);
    const places = modules.flatMap(({ kind, fixed }, at) => (kind === 'ffn' && fixed === undefined ? [at] : []));
    const ffns = places.map((at) => modules[at]!);
    const slots = places.map((at) => ({
      weight: modules[at]!.parameterCount,
      preferred: sparsities[at]!,
      lowest: 0,
      highest: highestSparsity(modules[at]!),
    }));
    const most = slots.reduce((sum, { weight, highest }) => sum + weight * highest, 0);
    const removed = modules.reduce(
      (sum, module, at) =>
        places.includes(at) ? sum : sum + parametersOfSteps(module, stepsOf(module, sparsities[at]!)),
      0,
    );
    const budget = Math.min(most, Math.max(0, sparsity * parametersOf(modules) - removed));
    const adjusted = slots.length === 0 ? [] : meetBudget({ sparsity: budget / parametersOf(ffns), slots });
    for (const [slot, at] of places.entries()) sparsities[at] = adjusted[slot]!;
    return sparsities;
  },
};

export const compared: Allocation = {
  ...global,
  description:
    'the threshold of `global`, uniform pruning, or the mean of both: the one with the best predictions on held-out windows',
  paper: 'this library: docs/methods.md',
  candidates: { threshold: global, halfway, even },
};
