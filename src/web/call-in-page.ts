import { EngineError } from '../errors.js';
import { checkControl } from '../options/run.js';
import { type AnswerOf, type CallName, mapCalls, type PageCall, type RequestOf } from '../pipeline/call-table.js';
import type { JobControl } from '../progress.js';
import { callInWorker, WorkerNotStarted } from './call-in-worker.js';
import { callOnThread } from './call-on-thread.js';
import { type EngineWorker, startEngineWorker } from './engine-worker.js';
import type { InPage } from './page-request.js';
import { startRuntime } from './web-platform.js';
import { readPageRuntime } from './web-runtime.js';

/** The calls of a page. */
export type PageCalls = { readonly [Call in PageCall]: (request: InPage<RequestOf<Call>>) => Promise<AnswerOf<Call>> };

export const pageCalls = mapCalls<PageCalls>(
  ({ platforms }) => platforms.includes('web'),
  (call) => (request: InPage<RequestOf<typeof call>>) => callInPage(call, request),
);

/**
 * Makes a call: from a page in a separate worker, so that the page remains responsive. A request with functions or an engine
 * runs on the page's thread, with its graphs in a worker. In a worker, or if none starts, calls run on this thread.
 */
export async function callInPage<Call extends CallName>(
  call: Call,
  request: InPage<RequestOf<Call>>,
): Promise<AnswerOf<Call>> {
  checkControl(request);
  if (!('document' in globalThis)) return callOnThread(call, request);
  if (!isData(Object(request))) return callWithEngineWorkers(call, request);
  try {
    return await callInWorker(call, request, { runtime: await readPageRuntime() });
  } catch (error) {
    if (!(error instanceof WorkerNotStarted)) throw error;
    return callOnThread(call, request);
  }
}

async function callWithEngineWorkers<Call extends CallName>(
  call: Call,
  request: InPage<RequestOf<Call>>,
): Promise<AnswerOf<Call>> {
  const workers: EngineWorker[] = [];
  const end = (reason: unknown) => {
    for (const worker of workers) worker.end(reason);
  };
  const { signal } = Object(request) as JobControl;
  const abort = () => end(signal?.reason);
  const startEngine = async (executionProviders: readonly string[]) => {
    const runtime = await readPageRuntime();
    try {
      const started = await startEngineWorker(runtime, executionProviders);
      workers.push(started);
      return started.engine;
    } catch (error) {
      if (!(error instanceof WorkerNotStarted)) throw error;
      return startRuntime({}, executionProviders);
    }
  };
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await callOnThread(call, request, { startEngine });
  } finally {
    signal?.removeEventListener('abort', abort);
    end(new EngineError('the call has ended, and its engine was released.'));
  }
}

/** Whether a request can be sent to a worker: it contains no engine, stages or functions. */
function isData({
  onProgress: _,
  signal: __,
  ...request
}: {
  readonly onProgress?: unknown;
  readonly signal?: unknown;
}) {
  return isCloneable(request);
}

function isCloneable(value: unknown): boolean {
  if (typeof value === 'function') return false;
  if (typeof value !== 'object' || value === null) return true;
  if (Array.isArray(value)) return value.every(isCloneable);
  if (Object.getPrototypeOf(value) === Object.prototype) return Object.values(value).every(isCloneable);
  return DATA_CLASSES.has(Object.prototype.toString.call(value));
}

/** Classes of objects that messages can contain. */
const DATA_CLASSES: ReadonlySet<string> = new Set(
  [
    ...['Map', 'Set', 'Blob', 'File', 'FileSystemDirectoryHandle', 'FileSystemFileHandle'],
    ...['Int32Array', 'Uint8Array', 'Float32Array', 'Float64Array'],
  ].map((name) => `[object ${name}]`),
);
