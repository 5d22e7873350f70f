import { EngineError } from '../errors.js';
import { type Channel, type FromCallee, sendRequest } from '../pipeline/call-messages.js';
import type { AnswerOf, CallName } from '../pipeline/call-table.js';
import type { JobControl } from '../progress.js';
import { findHome } from './call-on-thread.js';
import { changeMaps, type MapChange, mapsIn } from './changed-maps.js';
import { handleFolder } from './handle-folder.js';
import { holdingMap } from './holding-map.js';
import { mountPlaces } from './mount-places.js';
import { nextTask } from './next-task.js';
import { sweepAfter } from './partial-folder.js';
import { randomName } from './random-name.js';
import { removeScratch } from './scratch.js';
import type { WebHub } from './web-hub-store.js';
import type { WebRuntime } from './web-runtime.js';

/** The part of `Worker` in use. */
export interface WorkerLike {
  postMessage(message: unknown): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
  addEventListener(type: 'error', listener: (event: ErrorEvent) => void): void;
  terminate(): void;
}

export interface WorkerSettings {
  /** Starts a worker that runs `fang-prune/worker`. Default: the package's worker, which Vite and webpack find by themselves. */
  readonly start?: (() => WorkerLike) | undefined;
  /** Settings of ONNX Runtime Web in the worker. Default: its own. */
  readonly runtime?: WebRuntime | undefined;
  /** Settings of the Hugging Face Hub. Default: public models. */
  readonly hub?: WebHub | undefined;
}

/** The first message to a worker. */
export interface WorkerStart {
  readonly call: CallName;
  readonly request: object;
  readonly runtime: WebRuntime;
  readonly hub: WebHub;
  /** Prefix of names of incomplete files. */
  readonly run: string;
}

/** Messages from a worker. It sends the first one when it has started. */
export type FromWorker = FromCallee & { readonly maps?: readonly MapChange[] };

/** No worker could be started, or it ended before its first message. */
export class WorkerNotStarted extends EngineError {}

/**
 * Makes a call in a separate worker, which is terminated at its end to free the memory of ONNX Runtime. Aborting terminates it
 * at once and removes incomplete files. Maps as outputs are filled at the end.
 * @throws WorkerNotStarted; EngineError when the worker fails; the call's errors; the signal's reason when aborted.
 */
export function callInWorker<Call extends CallName>(
  call: Call,
  request: object & JobControl,
  settings: WorkerSettings = {},
): Promise<AnswerOf<Call>> {
  return holdingMap(request, () => startAndCall(call, request, settings));
}

async function startAndCall<Call extends CallName>(
  call: Call,
  { onProgress, signal, ...request }: object & JobControl,
  { start = startDefaultWorker, runtime = {}, hub = {} }: WorkerSettings,
): Promise<AnswerOf<Call>> {
  signal?.throwIfAborted();
  // Before the worker starts, since its errors are received only once it is listened to.
  const blobs = (await blobsForBytes(request)) as object;
  const [worker, run] = [start(), randomName()];
  let [hasStarted, hasEnded] = [false, false];
  const onMessage = (message: FromWorker) => {
    hasStarted = true;
    hasEnded = 'answer' in message || 'error' in message;
    if (message.maps !== undefined) changeMaps(mapsIn(request), message.maps);
  };
  const channel = channelTo(worker, { runtime, hub, run, onMessage });
  try {
    return await sendRequest(channel, call, { ...blobs, onProgress, signal });
  } catch (error) {
    const isMissing = !hasStarted && signal?.aborted !== true && error instanceof EngineError;
    throw isMissing ? new WorkerNotStarted(error.message) : error;
  } finally {
    worker.terminate();
    if (!hasEnded) await removeUnfinished(request, run);
  }
}

interface ChannelOptions extends Pick<WorkerStart, 'runtime' | 'hub' | 'run'> {
  onMessage(message: FromWorker): void;
}

function channelTo(worker: WorkerLike, { onMessage, ...settings }: ChannelOptions): Channel {
  let fail: (failure: string) => void = () => undefined;
  return {
    send(message) {
      if ('call' in message) worker.postMessage({ ...message, ...settings } satisfies WorkerStart);
      else fail('was ended');
    },
    listen(listener) {
      fail = (failure) => listener({ error: { code: 'ERR_ENGINE', message: `the worker ${failure}. ${REMEDY}` } });
      worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => {
        onMessage(data);
        listener(data);
      });
      worker.addEventListener('error', ({ message }: { readonly message?: string }) =>
        fail(message === undefined ? 'failed to start' : `failed: ${message}`),
      );
    },
  };
}

const REMEDY =
  'Give createPruneWorker a worker that runs fang-prune/worker as a module, with all its imports in the bundle.';

/** Removes incomplete files of a terminated run. */
async function removeUnfinished(request: object, run: string): Promise<void> {
  const home = await findHome();
  // A terminated worker in Chromium continues for up to 2 s, and holds its scratch files until then.
  if (home !== undefined) void removeScratch(home, run).catch(() => undefined);
  const places = [home, ...Object.values(mountPlaces(request).folders)];
  for (const place of places)
    if (place !== undefined && 'getFileHandle' in place) await sweepAfter(handleFolder(place), run);
}

/** @throws WorkerNotStarted */
export function startDefaultWorker(): WorkerLike {
  if (typeof Worker === 'undefined' || import.meta.url === undefined)
    throw new WorkerNotStarted(`Workers cannot be started from here. ${REMEDY}`);
  // Bundlers recognise this expression by its form.
  return new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
}

/** Bytes copied at once, so that the page remains responsive. */
const PIECE_BYTES = 4 * 2 ** 20;

/** Replaces bytes in a request's maps by blobs, which are sent to a worker without copying, and read there like files. */
async function blobsForBytes(value: unknown): Promise<unknown> {
  if (value instanceof Map) {
    const blobs = new Map<unknown, unknown>();
    for (const [path, file] of value) blobs.set(path, file instanceof Uint8Array ? await blobOf(file) : file);
    return blobs;
  }
  if (Array.isArray(value)) return Promise.all(value.map(blobsForBytes));
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const entries = Object.entries(value).map(async ([name, part]) => [name, await blobsForBytes(part)] as const);
  return Object.fromEntries(await Promise.all(entries));
}

async function blobOf(bytes: Uint8Array): Promise<Blob> {
  const pieces: Blob[] = [];
  for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
    pieces.push(new Blob([bytes.slice(at, at + PIECE_BYTES)]));
    await nextTask();
  }
  return new Blob(pieces);
}
