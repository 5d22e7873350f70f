import type { ImportanceProblem } from '../compensation/adapter.js';
import type { ScoreRow } from './importance-score.js';

export const random: ScoreRow = {
  description: 'by lot: the baseline that every method must beat; no repair',
  paper: 'none',
  needs: 'none',
  settings: {},
  score: scoreAtRandom,
};

/** Scores units by lot, uniformly in [0, 1): the baseline every method must beat. */
export function scoreAtRandom({ unitCount, random }: ImportanceProblem): Float64Array {
  return Float64Array.from({ length: unitCount }, random);
}
