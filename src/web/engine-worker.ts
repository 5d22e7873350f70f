import { EngineError } from '../errors.js';
import { reviveError, type SentError } from '../pipeline/revive-error.js';
import type { DeclaredValue, Engine, SessionOptions, Tensors } from '../runtime/engine.js';
import { trackTensor } from '../runtime/tensor-memory.js';
import { startDefaultWorker, type WorkerLike, WorkerNotStarted } from './call-in-worker.js';
import type { WebRuntime } from './web-runtime.js';

/** Requests to an engine in its worker, by name. */
export interface EngineMethods {
  start(runtime: WebRuntime, executionProviders: readonly string[]): Omit<Engine, 'load' | 'loadFile'>;
  load(model: Uint8Array, options: SessionOptions): LoadedSession;
  run(session: number, feeds: Tensors, fetches: readonly string[] | undefined): Tensors;
  release(session: number): void;
}

/** A session by its number. */
export interface LoadedSession {
  readonly session: number;
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
}

export interface EngineRequest<Name extends keyof EngineMethods = keyof EngineMethods> {
  readonly id: number;
  readonly method: Name;
  readonly params: Parameters<EngineMethods[Name]>;
}

export type EngineResponse = { readonly id: number } & ({ readonly answer: unknown } | { readonly error: SentError });

/** An engine in a worker. */
export interface EngineWorker {
  readonly engine: Engine;
  /** Terminates the worker. Pending and later requests reject with the reason. */
  end(reason: unknown): void;
}

/**
 * Starts ONNX Runtime Web in a separate worker, so that graphs of a call on the page's thread do not block it. Feeds are
 * copied.
 * @throws WorkerNotStarted; EngineError if ONNX Runtime does not start.
 */
export async function startEngineWorker(
  runtime: WebRuntime,
  executionProviders: readonly string[],
  start: () => WorkerLike = startDefaultWorker,
): Promise<EngineWorker> {
  const { send, end } = engineClient(start());
  try {
    const described = await send('start', runtime, executionProviders);
    const load: Engine['load'] = async (model, { weights, ...options } = {}) => {
      const copied = weights && new Map(Array.from(weights, ([name, bytes]) => [name, withOwnBuffer(bytes)]));
      const { session, ...declared } = await send('load', withOwnBuffer(model), { ...options, weights: copied });
      return {
        ...declared,
        async run(feeds, fetches) {
          const given = Object.entries(feeds).map(([name, one]) => [name, { ...one, data: withOwnBuffer(one.data) }]);
          const results = await send('run', session, Object.fromEntries(given) as Tensors, fetches);
          for (const tensor of Object.values(results)) trackTensor(tensor);
          return results;
        },
        release: () => send('release', session),
      };
    };
    return { engine: { ...described, load }, end };
  } catch (error) {
    end(error);
    throw error;
  }
}

/** Copies a view of a larger buffer, since messages copy the entire buffer. */
function withOwnBuffer<T extends ArrayBufferView & { slice(): T }>(array: T): T {
  return array.byteLength === array.buffer.byteLength ? array : array.slice();
}

interface EngineClient extends Pick<EngineWorker, 'end'> {
  send<Name extends keyof EngineMethods>(
    name: Name,
    ...about: Parameters<EngineMethods[Name]>
  ): Promise<ReturnType<EngineMethods[Name]>>;
}

function engineClient(worker: WorkerLike): EngineClient {
  const open = new Map<number, { resolve(answer: never): void; reject(error: unknown): void }>();
  let [count, hasStarted] = [0, false];
  let ended: { readonly reason: unknown } | undefined;
  const end = (reason: unknown) => {
    ended ??= { reason };
    worker.terminate();
    for (const { reject } of open.values()) reject(ended.reason);
    open.clear();
  };
  worker.addEventListener('message', ({ data }: MessageEvent<EngineResponse | { readonly beat: true }>) => {
    hasStarted = true;
    if (!('id' in data)) return;
    const pending = open.get(data.id);
    open.delete(data.id);
    if ('error' in data) pending?.reject(reviveError(data.error));
    else pending?.resolve(data.answer as never);
  });
  worker.addEventListener('error', ({ message = 'it did not start' }: { readonly message?: string }) => {
    const ErrorClass = hasStarted ? EngineError : WorkerNotStarted;
    end(new ErrorClass(`the worker that runs graphs failed: ${message}.`));
  });
  const send: EngineClient['send'] = (method, ...params) =>
    new Promise((resolve, reject) => {
      if (ended !== undefined) return reject(ended.reason);
      count += 1;
      open.set(count, { resolve, reject });
      return worker.postMessage({ id: count, method, params });
    });
  return { send, end };
}
