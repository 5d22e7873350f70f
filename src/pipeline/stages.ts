import { analyse } from './stages/analyse.js';
import { calibrate } from './stages/calibrate.js';
import { certify } from './stages/certify.js';
import { evaluate } from './stages/evaluate.js';
import { load } from './stages/load.js';
import { loadStatistics } from './stages/load-statistics.js';
import { measureDense } from './stages/measure-dense.js';
import { open } from './stages/open.js';
import { pruneMeasured } from './stages/prune-measured.js';
import { report } from './stages/report.js';
import { save } from './stages/save.js';

/** The stages of a run, in their order; one look at the dense model, measured or loaded, serves all results. */
export const STAGES = {
  open,
  load,
  analyse,
  calibrate,
  measureDense,
  loadStatistics,
  pruneMeasured,
  save,
  certify,
  report,
  evaluate,
} as const;

export type Stages = typeof STAGES;

/** Stages of one's own in place of some. */
export interface StagesOption<Name extends keyof Stages = keyof Stages> {
  /**
   * Stages to run in place of the library's, by name: each gets what that one gets, and gives what it gives.
   * @example
   * await prune({ ...request, stages: { certify: { name: 'certify', run: async () => undefined } } });
   */
  readonly stages?: Partial<Pick<Stages, Name>> | undefined;
}
