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
  /** Starts a worker that runs `fang-prune/worker`. Default: the package's own, which Vite and webpack find by themselves. */
  readonly start?: (() => WorkerLike) | undefined;
  /** How it runs graphs. Default: as ONNX Runtime Web does by itself. */
  readonly runtime?: WebRuntime | undefined;
  /** How models of the Hugging Face Hub are asked for. Default: public ones. */
  readonly hub?: WebHub | undefined;
}

/** The first message to a worker. */
export interface WorkerStart {
  readonly call: CallName;
  readonly request: object;
  readonly runtime: WebRuntime;
  readonly hub: WebHub;
  /** Begins the names of what it has not finished. */
  readonly run: string;
}

/** Messages from a worker. The first one says that it has started. */
export type FromWorker = FromCallee & { readonly maps?: readonly MapChange[] };

/** No worker could be started, or it ended before it said anything. */
export class WorkerNotStarted extends EngineError {}

/**
 * Makes a call in a worker of its own, which goes when the call ends, with the memory of ONNX Runtime. An abortion ends the worker
 * at once, whatever it does, and takes away what it has not finished. Maps that are written into are filled when the call ends.
 * @throws WorkerNotStarted; EngineError when the worker fails; whatever the call throws; the signal's reason when aborted.
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
  { start = startOwn, runtime = {}, hub = {} }: WorkerSettings,
): Promise<AnswerOf<Call>> {
  signal?.throwIfAborted();
  // Before the worker starts: one that fails says so at once, and is listened to only when it is asked.
  const blobs = (await blobsForBytes(request)) as object;
  const [worker, run] = [start(), randomName()];
  let [hasStarted, isOver] = [false, false];
  const onMessage = (message: FromWorker) => {
    hasStarted = true;
    isOver = 'answer' in message || 'error' in message;
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
    if (!isOver) await removeUnfinished(request, run);
  }
}

interface Listening extends Pick<WorkerStart, 'runtime' | 'hub' | 'run'> {
  onMessage(message: FromWorker): void;
}

function channelTo(worker: WorkerLike, { onMessage, ...settings }: Listening): Channel {
  let fail: (what: string) => void = () => undefined;
  return {
    send(message) {
      if ('call' in message) worker.postMessage({ ...message, ...settings } satisfies WorkerStart);
      else fail('was ended');
    },
    listen(listener) {
      fail = (what) => listener({ error: { code: 'ERR_ENGINE', message: `the worker ${what}. ${REMEDY}` } });
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
  'Give createPruneWorker one that runs fang-prune/worker as a module, and whose bundle holds all it imports.';

/** Takes away what a run that was ended has not finished. */
async function removeUnfinished(request: object, run: string): Promise<void> {
  const home = await findHome();
  // Chromium lets a worker compute for up to 2 s more, and scratch files are its own until then.
  if (home !== undefined) void removeScratch(home, run).catch(() => undefined);
  const places = [home, ...Object.values(mountPlaces(request).folders)];
  for (const place of places)
    if (place !== undefined && 'getFileHandle' in place) await sweepAfter(handleFolder(place), run);
}

/** @throws WorkerNotStarted */
export function startOwn(): WorkerLike {
  if (typeof Worker === 'undefined' || import.meta.url === undefined)
    throw new WorkerNotStarted(`Workers cannot be started from here. ${REMEDY}`);
  // Bundlers know this expression by its form.
  return new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
}

/** Taken at once, so that the page stays alive. */
const PIECE_BYTES = 4 * 2 ** 20;

/** A request whose maps hold blobs in place of bytes: those cross to a worker at no cost, and are read there as files are. */
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
