import { callInWorker, type WorkerLike, WorkerNotStarted } from '../../src/web/call-in-worker.js';

/** A worker whose script is not there: it says so as soon as it can. */
function missing(): WorkerLike {
  const listeners = new Map<string, (event: never) => void>();
  setTimeout(() => listeners.get('error')?.({} as never));
  return {
    postMessage: () => undefined,
    addEventListener: (type: string, listener: (event: never) => void) => void listeners.set(type, listener),
    terminate: () => undefined,
  };
}

it('hears of a worker that does not start, however long bytes take to become blobs', async () => {
  const request: object = { model: new Map([['onnx/model.onnx', new Uint8Array(64 * 2 ** 20)]]) };
  await expect(callInWorker('describe', request, { start: missing })).rejects.toThrow(WorkerNotStarted);
}, 10_000);
