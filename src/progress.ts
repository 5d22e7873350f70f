/** One step of a long job. `done` of `total` units are finished in `stage`. */
export interface Progress {
  /** Stable name of the stage, such as `measure` or `save`. */
  readonly stage: string;
  readonly done: number;
  readonly total: number;
  /** Current item, for a person: `block 3 ffn`. */
  readonly detail?: string;
  /** How much of the job is done, from 0 to below 1, as far as that is known; never falls. */
  readonly overall?: number;
  /** Milliseconds that the rest of the job takes, or of the stage where no `overall` is given. Absent until the estimate is stable, and below four seconds. */
  readonly remainingMs?: number;
}

/** Port through which every long job reports; the core never writes to the console. */
export type ProgressListener = (progress: Progress) => void;

declare global {
  // Programs without the typings of a browser or of Node.js have no such name, and ours must not fail there.
  interface AbortSignal {
    readonly aborted: boolean;
  }
}

/** Options of every long job: progress and cancellation. */
export interface JobControl {
  /** Called at every step. Default: none. */
  readonly onProgress?: ProgressListener | undefined;
  /** Ends the job when it is aborted; the call rejects with its reason. Default none. */
  readonly signal?: AbortSignal | undefined;
}
