import { EngineError } from '../errors.js';
import { checkControl } from '../options/run.js';
import { type AnswerOf, type CallName, mapCalls, type PageCall, type RequestOf } from '../pipeline/call-table.js';
import type { JobControl } from '../progress.js';
import { callInWorker, type WorkerSettings } from './call-in-worker.js';
import type { InPage } from './page-request.js';

/** The browser entry's calls, made in workers. Requests are plain data: no engine, stages or tokenizer. */
export type PruneWorker = {
  readonly [Call in PageCall]: (request: InWorker<RequestOf<Call>>) => Promise<AnswerOf<Call>>;
} & {
  /** Terminates the workers of active calls, which reject. */
  terminate(): void;
};

export type InWorker<Request> = Omit<InPage<Request>, 'engine' | 'stages'>;

/**
 * The calls with your function that starts workers, or your settings of ONNX Runtime. Each call has a separate worker. If no
 * worker starts, they reject, while the other calls of the browser entry run on the page's thread.
 * @example
 * const { prune } = createPruneWorker({ start: () => new Worker('/fang-prune-worker.js', { type: 'module' }) });
 */
export function createPruneWorker(settings: WorkerSettings = {}): PruneWorker {
  const ended = new AbortController();
  const callWorker = async (call: CallName, given: object & JobControl) => {
    checkControl(given);
    const { signal, ...request } = Object(given) as object & JobControl;
    const either = AbortSignal.any([ended.signal, ...(signal === undefined ? [] : [signal])]);
    return callInWorker(call, { ...request, signal: either }, settings);
  };
  const calls = mapCalls<Omit<PruneWorker, 'terminate'>>(
    ({ platforms }) => platforms.includes('web'),
    (call) => (request: object) => callWorker(call, request),
  );
  const terminate = () => ended.abort(new EngineError('the worker was ended.'));
  return { ...calls, terminate };
}
