import { adaptive, adaptiveClamped } from './adaptive.js';
import type { Allocation } from './allocation.js';
import { compared } from './compared.js';
import { global } from './global.js';
import { owl } from './owl.js';
import { standardised } from './standardised.js';
import { taylor } from './taylor.js';
import { uniform } from './uniform.js';

/** All allocations by name; a new one is a file with its row, and a line here. */
export const ALLOCATIONS = {
  uniform,
  adaptive,
  'adaptive-clamped': adaptiveClamped,
  owl,
  taylor,
  standardised,
  global,
  compared,
} as const satisfies Record<string, Allocation>;

export type AllocationName = keyof typeof ALLOCATIONS;
