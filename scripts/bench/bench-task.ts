import type { CalibrationOptions, PruneOptions } from '../../src/options.js';
import type { StageTiming } from '../../src/prune/job.js';

/** Task of a separate process. */
export interface BenchTask {
  readonly model: string;
  /** A pruning method; or a dtype, which is written of the entire model; or the same windows with nothing collected, `bare` through the blocks, `model` through the LM head as well. */
  readonly method: string;
  readonly options: Pick<PruneOptions, 'modules'>;
  /** What to prune to; several make a ladder. */
  readonly sparsity: readonly number[];
  readonly calibration: CalibrationOptions;
  readonly workFolder: string;
}

/** What it took. */
export interface BenchRun {
  readonly stages: readonly StageTiming[];
  readonly wallMs: number;
  /** Processor time of all threads. */
  readonly cpuMs: number;
  readonly peakBytes: number;
}
