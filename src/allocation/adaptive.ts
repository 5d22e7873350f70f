import type { Allocation } from './allocation.js';
import { MAX_SPARSITY, type SpreadRule, spreadByMeasure } from './spread-by-measure.js';

const byChange = (rule: Partial<SpreadRule> = {}): Pick<Allocation, 'measures' | 'checkable' | 'allocate'> => ({
  measures: ['blockChange'],
  checkable: 'budget and heads',
  allocate: (problem) => spreadByMeasure(problem, { measureOf: ({ blockChange }) => blockChange, ...rule }),
});

export const adaptive: Allocation = {
  description: 'blocks that change their input more are pruned less: s_l = s - (FC_l - mean FC), FC scaled to width s',
  paper: 'FANG (arXiv 2512.23014), Eq. 8, as its published code computes it',
  ...byChange(),
};

export const adaptiveClamped: Allocation = {
  description: 'as adaptive, each block kept within [0.5 s, 1.5 s]',
  paper: 'FANG (arXiv 2512.23014), Eq. 8, as its text bounds it',
  ...byChange({
    range: (sparsity) => [0.5 * sparsity, Math.min(1.5 * sparsity, Math.max(sparsity, MAX_SPARSITY))],
  }),
};
