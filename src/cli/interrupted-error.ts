import type { JobControl } from '../progress.js';

/** A run was interrupted; the message says how to resume it. */
export class InterruptedError extends Error {}

interface InterruptedRequest extends Pick<JobControl, 'signal'> {
  readonly out?: string | undefined;
  /** Present in `prune` with healing. */
  readonly heal?: unknown;
  /** Present in `heal`. */
  readonly dense?: string | undefined;
}

/** Adds a hint to an interruption: how to resume the run, if it has saved checkpoints. */
export function withResumeHint<T>({ signal, out, heal, dense }: InterruptedRequest, run: Promise<T>): Promise<T> {
  // Loaded while the run stops, since afterwards the process may have no time left.
  signal?.addEventListener('abort', () => void loadWorkspace(), { once: true });
  return run.catch(async (error: unknown) => {
    if (!signal?.aborted || out === undefined) throw error;
    const { findUnfinishedRun } = await loadWorkspace();
    const unfinished = await findUnfinishedRun(out);
    if (unfinished === undefined) throw error;
    const heals = dense !== undefined || (heal !== undefined && heal !== false);
    throw new InterruptedError(
      `interrupted; run the same command again to resume from ${unfinished}` +
        `${heals ? ', with --stop-healing to use the best weights of the last checkpoint' : ''}, or with --no-resume to begin again`,
    );
  });
}

/** Adds a hint to an interruption of a run with several models: the same command finds finished models and checkpoints. */
export function withFolderHint<T>(
  { signal, out }: { signal?: AbortSignal | undefined; out: string },
  run: Promise<T>,
): Promise<T> {
  signal?.addEventListener('abort', () => void loadWorkspace(), { once: true });
  return run.catch(async (error: unknown) => {
    const { findUnfinishedRun, hasFiles } = await loadWorkspace();
    if (!signal?.aborted || !((await hasFiles(out)) || (await findUnfinishedRun(out)) !== undefined)) throw error;
    throw new InterruptedError(`interrupted; run the same command again to resume from ${out}`);
  });
}

const loadWorkspace = () => import('../node/workspace.js');
