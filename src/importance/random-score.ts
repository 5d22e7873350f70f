import type { ImportanceProblem } from '../compensation/adapter.js';

/** Scores units by lot, uniformly in [0, 1): the baseline every method must beat. */
export function scoreAtRandom({ unitCount, random }: ImportanceProblem): Float64Array {
  return Float64Array.from({ length: unitCount }, random);
}
