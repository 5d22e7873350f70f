import { EngineError } from '../errors.js';
import { checkControl } from '../options/run.js';
import type { JobControl } from '../progress.js';
import type { AnswerOf, ModelCall, RequestOf } from '../remote/model-calls.js';
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

/** Pages are not drawn again from a page. */
type PageCall = Exclude<ModelCall, 'rebuildReport'>;

/** Names of the calls; the calls themselves are the worker's. */
const CALLS: Readonly<Record<PageCall, true>> = {
  plan: true,
  prune: true,
  pruneLadder: true,
  quantize: true,
  shrink: true,
  observe: true,
  trimVocabulary: true,
  applyRecipe: true,
  heal: true,
  describe: true,
  perplexity: true,
  evaluateTasks: true,
  logLikelihoods: true,
  generateText: true,
  evaluateModels: true,
  measureCalibrationBias: true,
};

/**
 * The calls with workers that you start, or whose ONNX Runtime you set up. Each call has a worker of its own. Unlike the calls by
 * themselves, which are made on the page's thread where no worker starts, these fail then.
 * @example
 * const { prune } = createPruneWorker({ start: () => new Worker('/fang-prune-worker.js', { type: 'module' }) });
 */
export function createPruneWorker(settings: WorkerSettings = {}): PruneWorker {
  const ended = new AbortController();
  const ask = async (call: ModelCall, given: object & JobControl) => {
    checkControl(given);
    const { signal, ...request } = Object(given) as object & JobControl;
    const either = AbortSignal.any([ended.signal, ...(signal === undefined ? [] : [signal])]);
    return callInWorker(call, { ...request, signal: either }, settings);
  };
  const calls = (Object.keys(CALLS) as ModelCall[]).map((call) => [call, (request: object) => ask(call, request)]);
  const terminate = () => ended.abort(new EngineError('the worker was ended.'));
  return { ...Object.fromEntries(calls), terminate } as PruneWorker;
}
