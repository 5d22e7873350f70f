import { EngineError, OptionError } from '../errors.js';
import type { JobControl, Progress } from '../progress.js';
import { reason } from './file-source.js';
import { forkWorker } from './fork-worker.js';
import { reviveError, type SentError } from './revive-error.js';
import { bytesOfPaths, watchProcess } from './watch-process.js';

/** Calls that can be made in a process of their own. */
export type IsolatedCall =
  | 'describe'
  | 'prune'
  | 'pruneLadder'
  | 'observe'
  | 'applyRecipe'
  | 'evaluateModels'
  | 'perplexity'
  | 'generateText'
  | 'measureCalibrationBias';

/** What a worker is told: once the call, then whether to stop. */
export type ToWorker = { readonly call: IsolatedCall; readonly request: object } | { readonly abort: true };

/** What it tells. */
export type FromWorker = { readonly progress: Progress } | { readonly answer: unknown } | { readonly error: SentError };

/** A request that may name a model or several. */
interface IsolatedRequest extends JobControl {
  readonly isolate?: boolean | undefined;
  readonly model?: string;
  readonly models?: readonly string[];
}

/**
 * Makes a call in a process of its own, under a watchdog. Progress and abortion pass through.
 * @throws OptionError when the request holds what cannot be sent (functions, an engine, a tokenizer); EngineError, saying what
 * it was doing, when the process died; whatever the call throws; the signal's reason when aborted.
 */
export async function runIsolated<T>(call: IsolatedCall, given: IsolatedRequest): Promise<T> {
  const { onProgress, signal, isolate: _, ...request } = given;
  signal?.throwIfAborted();
  const child = forkWorker('isolated-worker', {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const send = (message: ToWorker) => child.connected && child.send(message);
  const stop = () => send({ abort: true });
  signal?.addEventListener('abort', stop, { once: true });
  const watched = watchProcess(
    child,
    bytesOfPaths([given.model, ...(given.models ?? [])].filter((path) => path !== undefined)),
  );
  try {
    const settled = new Promise<FromWorker>((resolve) => {
      child.on('message', (message: FromWorker) => {
        if (!('progress' in message)) return resolve(message);
        watched.heard(message.progress);
        onProgress?.(message.progress);
      });
      void watched.death.then((death = 'exited without an answer') =>
        resolve({ error: { code: 'ERR_ENGINE', message: `the process of ${call} ${death}` } }),
      );
    });
    try {
      send({ call, request });
    } catch (cause) {
      throw new OptionError(
        `isolate sends the request to another process, which takes plain data alone: ${reason(cause)}`,
        {
          cause,
        },
      );
    }
    const message = await settled;
    signal?.throwIfAborted();
    if ('error' in message) throw reviveError(message.error, call);
    if (!('answer' in message)) throw new EngineError(`the process of ${call} gave no answer`);
    return message.answer as T;
  } finally {
    signal?.removeEventListener('abort', stop);
    child.kill('SIGKILL');
  }
}
