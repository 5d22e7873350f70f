import type { JobControl } from '../progress.js';

/** A run was interrupted; the message says what is left of it. */
export class InterruptedError extends Error {}

interface InterruptedRequest extends Pick<JobControl, 'signal'> {
  readonly out?: string | undefined;
  /** Healing, in the call that heals besides. */
  readonly heal?: unknown;
  /** The dense model, in the call that only heals. */
  readonly dense?: string | undefined;
}

/** Says how a run that makes `out` can be resumed, if it was interrupted and has saved something. */
export function withResumeHint<T>({ signal, out, heal, dense }: InterruptedRequest, run: Promise<T>): Promise<T> {
  // While the run stops: when it has, the process may have no time left.
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
