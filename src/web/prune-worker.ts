import { EngineError } from '../errors.js';
import { checkControl } from '../options/run.js';
import { type AnswerOf, type CallName, mapCalls, type PageCall, type RequestOf } from '../pipeline/call-table.js';
import type { JobControl } from '../progress.js';
import { callInWorker, type WorkerSettings } from './call-in-worker.js';
import type { InPage } from './page-request.js';

/** The browser entry's calls, made in workers. They take plain data alone: no engine, no stages, no tokenizer of your own. */
export type PruneWorker = {
  readonly [Call in PageCall]: (request: InWorker<RequestOf<Call>>) => Promise<AnswerOf<Call>>;
} & {
  /** Ends the workers of calls under way, which fail. */
  terminate(): void;
};

export type InWorker<Request> = Omit<InPage<Request>, 'engine' | 'stages'>;

/**
 * The calls with workers that you start, or whose ONNX Runtime you set up. Each call has a worker of its own. Unlike the calls by
 * themselves, which are made on the page's thread where no worker starts, these fail then.
 * @example
 * const { prune } = createPruneWorker({ start: () => new Worker('/fang-prune-worker.js', { type: 'module' }) });
 */
export function createPruneWorker(settings: WorkerSettings = {}): PruneWorker {
  const ended = new AbortController();
  const ask = async (call: CallName, given: object & JobControl) => {
    checkControl(given);
    const { signal, ...request } = Object(given) as object & JobControl;
    const either = AbortSignal.any([ended.signal, ...(signal === undefined ? [] : [signal])]);
    return callInWorker(call, { ...request, signal: either }, settings);
  };
  const calls = mapCalls<Omit<PruneWorker, 'terminate'>>(
    ({ platforms }) => platforms.includes('web'),
    (call) => (request: object) => ask(call, request),
  );
  const terminate = () => ended.abort(new EngineError('the worker was ended.'));
  return { ...calls, terminate };
}
