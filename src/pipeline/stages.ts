import { OptionError } from '../errors.js';
import { analyse } from './stage-analyse.js';
import { calibrate } from './stage-calibrate.js';
import { certify } from './stage-certify.js';
import { evaluate } from './stage-evaluate.js';
import { load } from './stage-load.js';
import { loadStatistics } from './stage-load-statistics.js';
import { measureDense } from './stage-measure-dense.js';
import { open } from './stage-open.js';
import { pruneMeasured } from './stage-prune-measured.js';
import { quality } from './stage-quality.js';
import { quantise } from './stage-quantise.js';
import { report } from './stage-report.js';
import { save } from './stage-save.js';

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
