import { createImportanceAdapter } from '../compensation/importance-adapter.js';
import { scoreByWeightTimesInput } from '../importance/wanda.js';
import type { Allocation } from './allocation.js';
import { MAX_SPARSITY, spreadByMeasure } from './spread-by-measure.js';

/** Largest difference between a block's sparsity and the overall one. */
const MAX_DIFFERENCE = 0.08;

export const owl: Allocation = {
  description: 'blocks with many outlier scores (Wanda) are pruned less, within s +- 0.08',
  paper: 'OWL: Yin et al., ICML 2024, arXiv 2310.05175',
  orderBy: () => createImportanceAdapter(scoreByWeightTimesInput),
  checkable: 'budget and heads',
  allocate: (problem) =>
    spreadByMeasure(problem, {
      measureOf: ({ order }) => order && outlierRatio(order.scores),
      width: () => 2 * MAX_DIFFERENCE,
      range: (sparsity) => [
        Math.max(0, sparsity - MAX_DIFFERENCE),
        Math.min(Math.max(sparsity, MAX_SPARSITY), sparsity + MAX_DIFFERENCE),
      ],
    }),
};

/**
 * Fraction of scores above `threshold` times their mean: how much a block depends on a few outliers.
 *
 * @param scores Importance of a block's channels, such as Wanda's.
 * @param threshold Default 5, as in the paper.
 * @returns In [0, 1]; 0 for no scores.
 * @see OWL (Yin et al., ICML 2024, arXiv 2310.05175), layerwise outlier distribution
 */
export function outlierRatio(scores: ArrayLike<number>, threshold = 5): number {
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += scores[i]!;
  const limit = (threshold * sum) / scores.length;
  let outliers = 0;
  for (let i = 0; i < scores.length; i++) if (scores[i]! > limit) outliers++;
  return scores.length === 0 ? 0 : outliers / scores.length;
}
