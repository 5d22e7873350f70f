import { errorMessage } from '../error-message.js';
import { EngineError } from '../errors.js';
import type { JobControl, Progress } from '../progress.js';
import type { StageTiming } from '../prune/job.js';
import type { Journal, Workspace } from '../runtime/journal.js';
import { isOutOfMemory, MEMORY_REMEDY } from '../runtime/out-of-memory.js';
import type { Platform } from '../runtime/platform.js';
import { createOverallProgress, type OverallProgress } from './overall-progress.js';

/** State shared by all stages of a job; all other data are inputs of stages. */
export interface JobContext extends JobControl {
  readonly platform: Platform;
  /** Timings of finished stages. */
  readonly timings: StageTiming[];
  /** Remarks for the report. */
  readonly remarks: string[];
  /** Notes about the run, not about its result. */
  readonly notes: string[];
  /** Workspace of the job's output. Absent: none yet. */
  readonly workspace?: Workspace | undefined;
  /** Checkpoints of the job. Absent: none are saved. */
  readonly journal?: Journal | undefined;
  /** Key of the job, see `runKey`. */
  readonly run?: string | undefined;
  /** Sets the expected steps of the job, for its progress. */
  readonly expect: OverallProgress['expect'];
  /** Runs a stage, with its progress and timing. */
  timed<T>(stage: string, action: () => Promise<T>): Promise<T>;
  /** Registers a cleanup for the end of this part of the job, also after failures; in reverse order. */
  onEnd(action: () => Promise<unknown>): void;
}

/** One step of a job. Callers may replace it by one with the same input and output. */
export interface Stage<Input, Output> {
  readonly name: string;
  run(context: JobContext, input: Input): Promise<Output>;
}

type Job<T> = (context: JobContext) => Promise<T>;

/**
 * Runs a job, and releases the resources of its stages.
 * @throws EngineError when memory runs out, and errors of stages.
 */
export async function withJob<T>(platform: Platform, { onProgress, signal }: JobControl, job: Job<T>): Promise<T> {
  const overall = createOverallProgress(() => performance.now());
  const listener = onProgress && ((progress: Progress) => onProgress(overall.add(progress)));
  const { expect } = overall;
  const parent = { platform, onProgress: listener, expect, signal, timings: [], remarks: [], notes: [] };
  try {
    return await withPart(parent, job);
  } catch (cause) {
    if (!(cause instanceof RangeError && isOutOfMemory(cause))) throw cause;
    throw new EngineError(`${errorMessage(cause)}. ${MEMORY_REMEDY}`, { cause });
  }
}

/** Runs part of a job with separate timings and remarks, and releases the resources of its stages. */
export async function withPart<T>(parent: Omit<JobContext, 'timed' | 'onEnd'>, part: Job<T>): Promise<T> {
  const endings: (() => Promise<unknown>)[] = [];
  const timings = [...parent.timings];
  const context: JobContext = {
    ...parent,
    timings,
    remarks: [...parent.remarks],
    notes: [...parent.notes],
    async timed(stage, action) {
      parent.onProgress?.({ stage, done: 0, total: 1 });
      const start = performance.now();
      const result = await action();
      timings.push({ stage, ms: performance.now() - start });
      return result;
    },
    onEnd: (action) => void endings.unshift(action),
  };
  try {
    return await part(context);
  } finally {
    await endAll(endings);
  }
}

/** Runs all cleanups, also after a failure. */
async function endAll([end, ...others]: readonly (() => Promise<unknown>)[]): Promise<void> {
  try {
    await end?.();
  } finally {
    if (others.length > 0) await endAll(others);
  }
}
