import type { Allocation } from './allocation.js';
import { spreadByMeasure } from './spread-by-measure.js';

export const taylor: Allocation = {
  description: 'blocks whose activations matter more to the loss (|h dL/dh|) are pruned less',
  paper: 'Molchanov et al., CVPR 2019, arXiv 1906.10771; as compared in FANG, Table 7',
  measures: ['sensitivity'],
  checkable: 'budget and heads',
  allocate: (problem) => spreadByMeasure(problem, { measureOf: ({ sensitivity }) => sensitivity }),
};
