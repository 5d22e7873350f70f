import type { ImportanceProblem } from '../compensation/adapter.js';
import { columnSums } from './column-sums.js';
import { inputNorms } from './fluctuation.js';
import { sumOverUnits } from './units.js';

/**
 * Wanda's score for whole channels: `sum_c |W_cj| ||x_j||_2`, summed over a head's channels ("Wanda-sp").
 *
 * @see Wanda (Sun et al., ICLR 2024, arXiv 2306.11695), with the structured form FLAP compares against
 */
export function scoreByWeightTimesInput(problem: ImportanceProblem): Float64Array {
  const norms = inputNorms(problem);
  const scores = columnSums(problem.scoredWeight ?? problem.weight, 'absolutes').map((sum, j) => sum * norms[j]!);
  return sumOverUnits(scores, problem);
}

/** Scores units by the Frobenius norm of their columns, `||W_P||_F`; reads no activations. */
export function scoreByMagnitude(problem: ImportanceProblem): Float64Array {
  return sumOverUnits(columnSums(problem.scoredWeight ?? problem.weight, 'squares'), problem).map(Math.sqrt);
}
