/** One step of a long job. `done` of `total` units are finished in `stage`. */
export interface Progress {
  /** Stable name of the stage, such as `measure` or `save`. */
  readonly stage: string;
  readonly done: number;
  readonly total: number;
  /** Current item, for a person: `block 3 ffn`. */
  readonly detail?: string;
  /** Fraction of the job that is done, from 0 to below 1, if known; never decreases. */
  readonly overall?: number;
  /** Estimated remaining time of the job in ms, or of the stage without `overall`. Absent until the estimate is stable, and below four seconds. */
  readonly remainingMs?: number;
}

/** Listener of progress; the core never writes to the console. */
export type ProgressListener = (progress: Progress) => void;

declare global {
  // Declared here for programs without typings of browsers or Node.js.
  interface AbortSignal {
    readonly aborted: boolean;
  }
}

/** Options of every long job: progress and cancellation. */
export interface JobControl {
  /** Called on progress. Default: none. */
  readonly onProgress?: ProgressListener | undefined;
  /** Aborts the job; the call rejects with the signal's reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}
