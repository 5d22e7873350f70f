import { healing } from './heal.js';
import type { Refinement } from './refinement.js';
import { inputRepair } from './repair-inputs.js';

/** All changes of weights besides a method's own repair, in order. */
export const REFINEMENTS: readonly Refinement[] = [inputRepair, healing];
