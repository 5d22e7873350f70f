import type { ImportanceProblem } from '../compensation/adapter.js';
import { columnSums } from './column-sums.js';
import type { ScoreRow } from './importance-score.js';
import { sumOverUnits } from './units.js';

export const magnitude: ScoreRow = {
  description: "norm of a unit's weight; reads no token; no repair",
  paper: 'Han et al., NeurIPS 2015, arXiv 1506.02626',
  needs: 'none',
  settings: {},
  score: scoreByMagnitude,
};

/** Scores units by the Frobenius norm of their columns, `||W_P||_F`; reads no token. */
export function scoreByMagnitude(problem: ImportanceProblem): Float64Array {
  return sumOverUnits(columnSums(problem.scoredWeight ?? problem.weight, 'squares'), problem).map(Math.sqrt);
}
