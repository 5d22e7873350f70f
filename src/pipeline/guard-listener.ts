import type { JobControl, ProgressListener } from '../progress.js';

/** Control of a job that is aborted when its listener throws. */
export interface GuardedControl {
  /** Throws what the caller's listener throws; absent where there is none. */
  readonly onProgress?: ProgressListener;
  /** Aborted with the caller's signal, or with what the listener threw. */
  readonly signal: AbortSignal;
  /** Releases the caller's signal. */
  release(): void;
}

/**
 * Makes a listener that throws, or whose promise rejects, abort its job with that error. Between processes nothing else catches it; in one, a loop that
 * tries again after errors would hide it.
 */
export function guardListener({ onProgress, signal }: JobControl): GuardedControl {
  const abortion = new AbortController();
  const forward = () => abortion.abort(signal?.reason);
  if (signal?.aborted) forward();
  signal?.addEventListener('abort', forward, { once: true });
  const guarded: ProgressListener = (progress) => {
    abortion.signal.throwIfAborted();
    try {
      const returned: unknown = onProgress?.(progress);
      // An async listener: its rejection would be unhandled.
      if (returned instanceof Promise) returned.catch((error) => abortion.abort(error));
    } catch (error) {
      abortion.abort(error);
      throw error;
    }
  };
  return {
    ...(onProgress && { onProgress: guarded }),
    signal: abortion.signal,
    release: () => signal?.removeEventListener('abort', forward),
  };
}
