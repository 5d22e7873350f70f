/** One step of a long job. `done` of `total` units are finished in `stage`. */
export interface Progress {
  /** Stable name of the stage, such as `measure` or `save`. */
  readonly stage: string;
  readonly done: number;
  readonly total: number;
  /** What is being worked on, for a person: `block 3 ffn`. */
  readonly detail?: string;
  /** How much of the whole job is done, from 0 to below 1, as far as that is foreseen; never falls. */
  readonly whole?: number;
}

/** Port through which every long job reports; the core never writes to the console. */
export type ProgressListener = (progress: Progress) => void;

/** Reports one of several alike parts of a job as its share of the whole. @param part From 0. */
export function partOfProgress(listener: ProgressListener, part: number, partCount: number): ProgressListener {
  return (progress) =>
    listener({ ...progress, done: part * progress.total + progress.done, total: partCount * progress.total });
}

declare global {
  // Programs without the typings of a browser or of Node.js have no such name, and ours must not fail there.
  interface AbortSignal {
    readonly aborted: boolean;
  }
}

/** What every long job takes: a way to hear of progress and a way to stop it. */
export interface JobControl {
  /** Called at every step. Default: nobody is told. */
  readonly onProgress?: ProgressListener | undefined;
  /** Ends the job when it is aborted; the call rejects with its reason. Default none. */
  readonly signal?: AbortSignal | undefined;
}
