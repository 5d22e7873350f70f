import type { PruneReport } from '../../src/node.js';
import type { Experiment } from './experiments.js';

/** What a process of its own is asked to measure. */
export interface Task {
  readonly model: string;
  /** Where the pruned model goes. */
  readonly folder: string;
  readonly keep: boolean;
  readonly options?: Experiment['options'];
  /** Text files by name. */
  readonly texts: Readonly<Record<string, string>>;
  /** Task files by name, and how many of their first items are measured. */
  readonly tasks: Readonly<Record<string, string>>;
  readonly taskLimit: number;
  /** What is known already and need not be measured again. */
  readonly known?: Measurement | undefined;
}

export interface Measurement {
  readonly pruning?: Pick<
    PruneReport,
    'sparsity' | 'parameters' | 'bytes' | 'timings' | 'remarks' | 'peakMemoryBytes'
  > & {
    readonly widths: readonly number[];
  };
  readonly perplexities: Readonly<
    Record<string, { readonly value: number; readonly tokenCount: number; readonly textSha256: string }>
  >;
  readonly tasks?: Readonly<
    Record<string, { readonly accNorm: number; readonly goldNll: number; readonly itemCount: number }>
  >;
}

/** Measurements by experiment, with the options they were made with: a changed experiment is measured again. */
export type Measurements = Record<string, { readonly options: string; readonly measurement: Measurement }>;
