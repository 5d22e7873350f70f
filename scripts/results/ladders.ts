import type { Experiment } from './experiments.js';

/** Experiments that differ in nothing but their sparsity: one look at the dense model serves them all. */
export type Ladder = readonly [Experiment, ...Experiment[]];

/** Joins experiments to ladders, in the order of each ladder's first. */
export function joinToLadders(experiments: readonly Experiment[]): readonly Ladder[] {
  const ladders = new Map<string, [Experiment, ...Experiment[]]>();
  for (const experiment of experiments) {
    const { options, reference } = experiment;
    const key = JSON.stringify({ ...options, sparsity: options && 'any', reference });
    const ladder = ladders.get(key);
    if (ladder === undefined) ladders.set(key, [experiment]);
    else ladder.push(experiment);
  }
  return [...ladders.values()];
}
