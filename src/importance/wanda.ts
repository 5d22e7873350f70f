import type { ImportanceProblem } from '../compensation/adapter.js';
import { columnSums } from './column-sums.js';
import { inputNorms } from './fluctuation.js';
import type { ScoreRow } from './importance-score.js';
import { sumOverUnits } from './units.js';

export const wanda: ScoreRow = {
  description: 'absolute weight times the norm of its input, summed over a unit ("Wanda-sp"); no repair',
  paper: 'Wanda: Sun et al., ICLR 2024, arXiv 2306.11695',
  needs: 'moments',
  settings: {},
  score: scoreByWeightTimesInput,
};

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
