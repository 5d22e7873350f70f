import type { ChildProcess } from 'node:child_process';
import { OptionError } from '../errors.js';
import type { JobControl, Progress } from '../progress.js';
import { reason } from '../reason.js';
import { forkWorker } from './fork-worker.js';
import { inheritDescriptors } from './inherit-descriptors.js';
import type { AnswerOf, ModelCall, RequestOf } from './model-calls.js';
import { reviveError, type SentError } from './revive-error.js';
import { bytesOfPaths, type WatchedProcess, watchProcess } from './watch-process.js';

/** A call that a worker makes. */
export interface Order {
  readonly call: ModelCall;
  readonly request: RequestOf<ModelCall>;
}

/** What a worker is told: once the call, then whether to stop. */
export type ToWorker = Order | { readonly abort: true };

/** What it tells. */
export type FromWorker = { readonly progress: Progress } | { readonly beat: true } | Outcome;

type Outcome = { readonly answer: unknown } | { readonly error: SentError };

/** What an aborted call may take to stop by itself; what it has kept is whole however it ends. */
const PATIENCE_MS = 1500;

/**
 * Makes a call in a process of its own, under a watchdog. Progress and abortion pass through.
 * @throws OptionError when the request holds what cannot be sent (functions, an engine, a tokenizer); EngineError, saying what
 * it was doing, when the process died; whatever the call throws; the signal's reason when aborted.
 */
export async function runIsolated<Call extends ModelCall>(
  call: Call,
  { onProgress, signal, ...request }: RequestOf<Call> & JobControl,
): Promise<AnswerOf<Call>> {
  signal?.throwIfAborted();
  const child = forkWorker('isolated-worker', { serialization: 'advanced', stdio: inheritDescriptors(request) });
  const send = (message: ToWorker) => child.connected && child.send(message);
  const kill = () => child.kill('SIGKILL');
  const stop = () => {
    send({ abort: true });
    setTimeout(kill, PATIENCE_MS).unref();
  };
  signal?.addEventListener('abort', stop, { once: true });
  process.once('exit', kill);
  try {
    const watched = watchProcess(child, bytesOfPaths(modelsOf(request)));
    const settled = settle(child, { call, watched, onProgress });
    try {
      send({ call, request: request as Order['request'] });
    } catch (cause) {
      const said = `isolate sends the request to another process, which takes plain data alone: ${reason(cause)}`;
      throw new OptionError(said, { cause });
    }
    const outcome = await settled;
    signal?.throwIfAborted();
    if ('error' in outcome) throw reviveError(outcome.error);
    return outcome.answer as AnswerOf<Call>;
  } finally {
    signal?.removeEventListener('abort', stop);
    process.off('exit', kill);
    kill();
  }
}

interface Watching extends Pick<JobControl, 'onProgress'> {
  readonly call: ModelCall;
  readonly watched: WatchedProcess;
}

/** Listens to a worker until it has an answer, or has died. */
function settle(child: ChildProcess, { call, watched, onProgress }: Watching): Promise<Outcome> {
  return new Promise((resolve) => {
    child.on('message', (message: FromWorker) => {
      if ('answer' in message || 'error' in message) return resolve(message);
      const progress = 'progress' in message ? message.progress : undefined;
      watched.heard(progress);
      if (progress !== undefined) onProgress?.(progress);
    });
    void watched.death.then((death = 'exited without an answer') => {
      const message = `the process of ${call} ${death}. The model or a file beside it may be the cause: check where it comes from, or try another export`;
      resolve({ error: { code: 'ERR_ENGINE', message } });
    });
  });
}

/** Models that any request may name. */
function modelsOf(request: object): string[] {
  const { model, models, dense, pruned, reference } = request as Readonly<Record<string, unknown>>;
  return [model, models, dense, pruned, reference].flat().filter((path) => typeof path === 'string');
}
