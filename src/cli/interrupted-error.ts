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

/** Adds to an interruption how to resume the run, if it has saved checkpoints. */
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
        `${heals ? ', with --stop-healing to take the best weights of the last checkpoint' : ''}, or with --no-resume to begin again`,
    );
  });
}

const loadWorkspace = () => import('../platform/node/workspace.js');
