import type { Allocation } from './allocation.js';
import { spreadByMeasure } from './spread-by-measure.js';

export const uniform: Allocation = {
  description: 'every block loses the same fraction',
  paper: 'FLAP (arXiv 2312.11983), UL-UM',
  checkable: 'budget and heads',
  allocate: (problem) => spreadByMeasure(problem),
};
