import { OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import { type Allocation, type AllocationProblem, type ModuleMeasures, stepsOf } from './allocation.js';
import { evenHeadGroups, freeHeadGroups } from './even-head-groups.js';

/**
 * Calls an allocation and rounds its sparsities to whole steps; sparsities fixed by options are kept.
 * @returns Steps to remove, one entry per module.
 * @throws OptionError for invalid sparsities, or head counts that must be equal and cannot be.
 */
export function allocateSteps(allocation: Pick<Allocation, 'allocate'>, problem: AllocationProblem): number[] {
  const { modules, evenHeads } = problem;
  const sparsities = allocation.allocate(problem);
  if (sparsities?.length !== modules.length)
    throw new OptionError(
      `the allocation gave ${sparsities?.length ?? 'no'} sparsities for ${modules.length} modules; expected one each, in their order`,
    );
  const steps = modules.map((module, at) => stepsOf(module, module.fixed ?? checkedSparsity(module, sparsities[at]!)));
  const evened = [...steps];
  for (const group of freeHeadGroups(problem)) {
    const places = group.map((module) => modules.indexOf(module));
    const even = evenCount(places.map((at) => steps[at]!));
    for (const at of places) evened[at] = even;
  }
  if (evenHeads) checkEvenHeads(problem, evened);
  return evened;
}

/**
 * One count of removed heads for all blocks, for runtimes that read a single head count.
 * @returns The count that is nearest to their mean.
 */
export function evenCount(counts: readonly number[]): number {
  return counts.length === 0 ? 0 : Math.round(sum(counts) / counts.length);
}

function checkedSparsity({ block, kind, minimumKept }: ModuleMeasures, sparsity: number): number {
  if (sparsity >= 0 && (sparsity < 1 || (sparsity === 1 && minimumKept === 0))) return sparsity;
  throw new OptionError(
    `the allocation gave block ${block} ${kind} the sparsity ${sparsity}; expected a number from 0 to below 1`,
  );
}

function checkEvenHeads(problem: AllocationProblem, steps: readonly number[]): void {
  const shapeOf = (module: ModuleMeasures) => `${module.unitCount}-${steps[problem.modules.indexOf(module)]}`;
  if (evenHeadGroups(problem).some((group) => new Set(group.map(shapeOf)).size > 1)) {
    throw new OptionError(
      'blockSparsity leaves different numbers of heads in different blocks, which older runtimes cannot open; ' +
        "set perBlockKvHeads, or prune modules: 'ffn' only",
    );
  }
}
