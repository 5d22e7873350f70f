import { EngineError } from '../errors.js';
import { reviveError, type SentError } from '../pipeline/revive-error.js';
import type { DeclaredValue, Engine, SessionOptions, Tensors } from '../runtime/engine.js';
import { trackTensor } from '../runtime/tensor-memory.js';
import { startOwn, type WorkerLike, WorkerNotStarted } from './call-in-worker.js';
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
  /** Ends the worker, whatever it computes. What it is asked for, then and later, fails for the reason given. */
  end(reason: unknown): void;
}

/**
 * Starts ONNX Runtime Web in a worker of its own, so that computing on a page's thread does not block it while a graph
 * runs. What is fed, and what comes back, is copied.
 * @throws WorkerNotStarted; EngineError where ONNX Runtime does not start.
 */
export async function startEngineWorker(
  runtime: WebRuntime,
  executionProviders: readonly string[],
  start: () => WorkerLike = startOwn,
): Promise<EngineWorker> {
  const { ask, end } = engineClient(start());
  try {
    const described = await ask('start', runtime, executionProviders);
    const load: Engine['load'] = async (model, { weights, ...options } = {}) => {
      const alone = weights && new Map(Array.from(weights, ([name, bytes]) => [name, standingAlone(bytes)]));
      const { session, ...declared } = await ask('load', standingAlone(model), { ...options, weights: alone });
      return {
        ...declared,
        async run(feeds, fetches) {
          const given = Object.entries(feeds).map(([name, one]) => [name, { ...one, data: standingAlone(one.data) }]);
          const results = await ask('run', session, Object.fromEntries(given) as Tensors, fetches);
          for (const tensor of Object.values(results)) trackTensor(tensor);
          return results;
        },
        release: () => ask('release', session),
      };
    };
    return { engine: { ...described, load }, end };
  } catch (error) {
    end(error);
    throw error;
  }
}

/** Messages copy the entire memory that an array is a part of. */
function standingAlone<T extends ArrayBufferView & { slice(): T }>(array: T): T {
  return array.byteLength === array.buffer.byteLength ? array : array.slice();
}

interface EngineClient extends Pick<EngineWorker, 'end'> {
  ask<Name extends keyof EngineMethods>(
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
    const asked = open.get(data.id);
    open.delete(data.id);
    if ('error' in data) asked?.reject(reviveError(data.error));
    else asked?.resolve(data.answer as never);
  });
  worker.addEventListener('error', ({ message = 'it did not start' }: { readonly message?: string }) => {
    const ErrorClass = hasStarted ? EngineError : WorkerNotStarted;
    end(new ErrorClass(`the worker that runs graphs failed: ${message}.`));
  });
  const ask: EngineClient['ask'] = (method, ...params) =>
    new Promise((resolve, reject) => {
      if (ended !== undefined) return reject(ended.reason);
      count += 1;
      open.set(count, { resolve, reject });
      return worker.postMessage({ id: count, method, params });
    });
  return { ask, end };
}
