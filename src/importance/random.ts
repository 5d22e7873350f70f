import type { ImportanceProblem } from '../compensation/adapter.js';
import type { ScoreRow } from './importance-score.js';

export const random: ScoreRow = {
  description: 'at random: the baseline that every method must beat; no repair',
  paper: 'none',
  needs: 'none',
  settings: {},
  score: scoreAtRandom,
};

/** Scores units at random, uniformly in [0, 1): the baseline every method must beat. */
export function scoreAtRandom({ unitCount, random }: ImportanceProblem): Float64Array {
  return Float64Array.from({ length: unitCount }, random);
}
