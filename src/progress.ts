/** One step of a long job. `done` of `total` units are finished in `stage`. */
export interface Progress {
  /** Stable name of the stage, such as `measure` or `save`. */
  readonly stage: string;
  readonly done: number;
  readonly total: number;
  /** What is being worked on, for a person: `block 3 ffn`. */
  readonly detail?: string;
}

/** Port through which every long job reports; the core never writes to the console. */
export type ProgressListener = (progress: Progress) => void;

/** What every long job takes: a way to hear of progress and a way to stop it. */
export interface JobControl {
  readonly onProgress?: ProgressListener | undefined;
  readonly signal?: AbortSignal | undefined;
}
