import type { GradientCase } from '../support/gradient-check.js';
import { ATTENTION_CASES } from './attention-cases.js';
import { LINEAR_ATTENTION_CASES } from './linear-attention-cases.js';
import { POINTWISE_CASES } from './pointwise-cases.js';
import { STRUCTURE_CASES } from './structure-cases.js';

/** Small graphs with an operator, by its name. */
export const CASES: Readonly<Record<string, readonly GradientCase[]>> = {
  ...POINTWISE_CASES,
  ...STRUCTURE_CASES,
  ...ATTENTION_CASES,
  ...LINEAR_ATTENTION_CASES,
};
