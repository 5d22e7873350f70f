import { type Allocation, type AllocationProblem, parametersOf } from './allocation.js';
import { global } from './global.js';
import { uniform } from './uniform.js';

/** The mean of the threshold's sparsities and uniform sparsity, at the same budget. */
const halfway: Allocation = {
  ...global,
  allocate(problem: AllocationProblem) {
    const own = Array.from(global.allocate(problem));
    const removed = own.reduce((sum, value, at) => sum + value * problem.modules[at]!.parameterCount, 0);
    const even = removed / parametersOf(problem.modules);
    return own.map((value, at) => (problem.modules[at]!.fixed === undefined ? (value + even) / 2 : value));
  },
};

export const compared: Allocation = {
  ...global,
  description:
    'the threshold of `global`, uniform pruning, or the mean of both: the one with the best predictions on held-out windows',
  paper: 'this library: docs/methods.md',
  candidates: { threshold: global, halfway, even: uniform },
};
