import { OptionError } from '../errors.js';
import type { WebRuntime } from '../platform/web/web-runtime.js';
import { askThrough, type Channel, type FromCallee } from '../remote/messages.js';
import type { AnswerOf, ModelCall, RequestOf } from '../remote/model-calls.js';
import { changeMaps, type MapChange, mapsIn } from './changed-maps.js';
import type { InPage } from './page-request.js';

/** The browser entry's calls, made in a worker. They take plain data alone: no engine, no stages, no tokenizer of your own. */
export type PruneWorker = {
  readonly [Call in ModelCall]: (request: InWorker<RequestOf<Call>>) => Promise<AnswerOf<Call>>;
} & {
  /** Ends the worker; calls under way fail. */
  terminate(): void;
};

export type InWorker<Request> = Omit<InPage<Request>, 'engine' | 'stages'>;

/** What is used of a `Worker`. */
export interface WorkerLike {
  postMessage(message: unknown, transfer?: never[]): void;
  addEventListener(type: 'error' | 'messageerror', listener: (event: never) => void): void;
  terminate(): void;
}

export interface PruneWorkerOptions {
  /** One that runs `fang-prune/worker`. Default: the package's own is started, which Vite and webpack find by themselves. */
  readonly worker?: WorkerLike | undefined;
  /** How it runs graphs. Default: as ONNX Runtime Web does by itself. */
  readonly runtime?: WebRuntime | undefined;
}

/** Names of the calls; the calls themselves are the worker's. */
const CALLS: Readonly<Record<ModelCall, true>> = {
  plan: true,
  prune: true,
  pruneLadder: true,
  quantize: true,
  observe: true,
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
 * Starts a worker that prunes, so that the page stays alive. Progress, `signal` and errors are as in calls without one; maps that
 * are written into are filled when a call ends.
 * @throws OptionError where there is no worker to start.
 * @example
 * const worker = createPruneWorker();
 * await worker.prune({ model: files, out: 'smaller', sparsity: 0.3, onProgress, signal });
 */
export function createPruneWorker({ worker = startWorker(), runtime }: PruneWorkerOptions = {}): PruneWorker {
  if (runtime !== undefined) worker.postMessage({ runtime });
  const pending = new Set<(message: FromCallee) => void>();
  const fail = (what: string) => {
    const message = `the worker ${what}. Give createPruneWorker a worker that runs fang-prune/worker as a module, and whose bundle holds all it imports.`;
    for (const hear of pending) hear({ error: { code: 'ERR_ENGINE', message } });
  };
  worker.addEventListener('error', ({ message }: { readonly message?: string }) =>
    fail(`failed${message === undefined ? ' to start' : `: ${message}`}`),
  );
  const ask = async (call: ModelCall, request: object): Promise<unknown> => {
    const { port1, port2 } = new MessageChannel();
    let hear: (message: FromCallee) => void = () => undefined;
    const channel: Channel = {
      send: (message) =>
        'call' in message ? worker.postMessage(message, [port2 as never]) : port1.postMessage(message),
      listen(listener) {
        hear = listener;
        pending.add(hear);
        port1.onmessage = ({ data }: MessageEvent<FromCallee & { readonly maps?: readonly MapChange[] }>) => {
          if (data.maps !== undefined) changeMaps(mapsIn(request), data.maps);
          hear(data);
        };
      },
    };
    return askThrough(channel, call, request).finally(() => {
      pending.delete(hear);
      port1.close();
    });
  };
  const calls = (Object.keys(CALLS) as ModelCall[]).map((call) => [call, (request: object) => ask(call, request)]);
  const terminate = () => {
    worker.terminate();
    fail('was ended');
  };
  return { ...Object.fromEntries(calls), terminate } as PruneWorker;
}

function startWorker(): WorkerLike {
  if (typeof Worker !== 'undefined' && import.meta.url !== undefined)
    // Bundlers know this expression by its form.
    return new Worker(new URL('./worker.js', import.meta.url), { type: 'module' }) as unknown as WorkerLike;
  throw new OptionError(
    'Workers cannot be started from here. Give createPruneWorker one that runs fang-prune/worker.',
    {
      option: 'worker',
    },
  );
}
