import type { JobControl, ProgressListener } from '../progress.js';

/** Control of a job that is aborted when its listener throws. */
export interface GuardedControl {
  /** Rethrows errors of the caller's listener; absent without a listener. */
  readonly onProgress?: ProgressListener;
  /** Aborted with the caller's signal, or by an error of the listener. */
  readonly signal: AbortSignal;
  /** Releases the caller's signal. */
  release(): void;
}

/**
 * Aborts a job with the error of its listener, thrown or rejected. No caller catches it across processes, and within a
 * process a loop that retries after errors would hide it.
 */
export function guardListener({ onProgress, signal }: JobControl): GuardedControl {
  const controller = new AbortController();
  const forward = () => controller.abort(signal?.reason);
  if (signal?.aborted) forward();
  signal?.addEventListener('abort', forward, { once: true });
  const guarded: ProgressListener = (progress) => {
    controller.signal.throwIfAborted();
    try {
      const returned: unknown = onProgress?.(progress);
      // An async listener: its rejection would be unhandled.
      if (returned instanceof Promise) returned.catch((error) => controller.abort(error));
    } catch (error) {
      controller.abort(error);
      throw error;
    }
  };
  return {
    ...(onProgress && { onProgress: guarded }),
    signal: controller.signal,
    release: () => signal?.removeEventListener('abort', forward),
  };
}
