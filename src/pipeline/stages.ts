import { OptionError } from '../errors.js';
import { analyse } from './stages/analyse.js';
import { calibrate } from './stages/calibrate.js';
import { certify } from './stages/certify.js';
import { evaluate } from './stages/evaluate.js';
import { load } from './stages/load.js';
import { loadStatistics } from './stages/load-statistics.js';
import { measureDense } from './stages/measure-dense.js';
import { open } from './stages/open.js';
import { pruneMeasured } from './stages/prune-measured.js';
import { quality } from './stages/quality.js';
import { quantise } from './stages/quantise.js';
import { report } from './stages/report.js';
import { save } from './stages/save.js';

/** Stages of a run, in order; all results share one measurement of the dense model, or its statistics. */
export const STAGES = {
  open,
  load,
  analyse,
  calibrate,
  measureDense,
  loadStatistics,
  pruneMeasured,
  quantise,
  save,
  certify,
  quality,
  report,
  evaluate,
} as const;

export type Stages = typeof STAGES;

/** Custom stages. */
export interface StagesOption<Name extends keyof Stages = keyof Stages> {
  /**
   * Replacements of stages by name, with the same input and output.
   * @example
   * await prune({ ...request, stages: { certify: { name: 'certify', run: async () => undefined } } });
   */
  readonly stages?: Partial<Pick<Stages, Name>> | undefined;
}

/** All stages, some of them replaced. @throws OptionError for an unknown or invalid stage. */
export function resolveStages(given: Partial<Stages> = {}): Stages {
  for (const [name, stage] of Object.entries(given)) {
    if (!Object.hasOwn(STAGES, name))
      throw new OptionError(`stages.${name} replaces no stage; there are ${Object.keys(STAGES).join(', ')}`);
    if (typeof stage?.run !== 'function')
      throw new OptionError(`stages.${name} has no run; expected { name, run(context, input) }`);
  }
  return { ...STAGES, ...given };
}
