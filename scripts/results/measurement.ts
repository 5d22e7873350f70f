import type { PruneReport } from '../../src/node.js';
import type { Experiment } from './experiments.js';

/** Task of a separate process: measures the results of one ladder, or the dense model. */
export interface Task {
  readonly model: string;
  /** Folder that gets a folder a rung; those already there are finished ones of the same ladder. */
  readonly out: string;
  /** Leaves the pruned models there. */
  readonly keep: boolean;
  /** Absent for the dense model. */
  readonly options?: Omit<NonNullable<Experiment['options']>, 'sparsity'>;
  readonly rungs: readonly Rung[];
  /** Text files by name. */
  readonly texts: Readonly<Record<string, string>>;
  /** Windows of 512 tokens of each. */
  readonly textWindows: number;
  /** Task files by name, and how many of their first items are measured. */
  readonly tasks: Readonly<Record<string, string>>;
  readonly taskLimit: number;
}

/** One experiment of a ladder. */
export interface Rung {
  readonly id: string;
  /** Absent for the dense model. */
  readonly sparsity?: number | undefined;
  /** What is known already and need not be measured again. */
  readonly known?: Measurement | undefined;
}

/** A line that the process prints: everything known of a rung so far. */
export interface Found {
  readonly id: string;
  readonly measurement: Measurement;
}

export interface Measurement {
  readonly pruning?: Pick<
    PruneReport,
    'sparsity' | 'parameters' | 'bytes' | 'timings' | 'remarks' | 'peakMemoryBytes'
  > & {
    readonly widths: readonly number[];
  };
  readonly perplexities: Readonly<Record<string, TextFigures>>;
  /** Files of the model that is opened. */
  readonly modelBytes?: number;
  readonly tasks?: Readonly<Record<string, TaskFigures>>;
}

export interface TextFigures {
  readonly value: number;
  readonly tokenCount: number;
  readonly textSha256: string;
  /** CPU time of all cores, loading included; absent in older measurements. */
  readonly processorMs?: number;
}

export interface TaskFigures {
  readonly accNorm: number;
  readonly goldNll: number;
  readonly itemCount: number;
  /** Items asked for; other limits are other figures. */
  readonly limit: number;
}

/** Measurements by experiment, with their options: a changed experiment is measured again. */
export type Measurements = Readonly<Record<string, { readonly options: string; readonly measurement: Measurement }>>;
