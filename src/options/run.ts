import type { JobControl } from '../progress.js';
import { callback, integer, withMethods } from './kinds.js';
import { checkOptions, pickOptions, type Rows, row } from './option.js';

/** Options of every run. */
export interface RunOptions extends JobControl {
  /** Random seed. Default 0. */
  readonly seed?: number | undefined;
}

/** Options of every long job. */
export const CONTROL = {
  onProgress: row(undefined, 'is called with each step', { kind: callback('a function'), otherwise: 'none' }),
  signal: row(undefined, 'ends the job when it is aborted', {
    kind: withMethods('an AbortSignal', ['throwIfAborted', 'addEventListener', 'removeEventListener']),
    otherwise: 'none',
  }),
} as const satisfies Rows<JobControl>;

/** Checks the options of every long job. @throws OptionError naming the option */
export function checkControl(request: unknown): void {
  checkOptions(pickOptions(Object(request), CONTROL), CONTROL);
}

/** Creates the row of a seed. */
export const seedOf = (help: string) => ({ kind: integer(0), default: 0, flag: '--seed <number>', help });

export const RUN = {
  seed: { ...seedOf('seed of everything random'), common: true },
  ...CONTROL,
} as const satisfies Rows<RunOptions>;
