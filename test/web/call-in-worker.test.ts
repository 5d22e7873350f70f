import { callInWorker, type WorkerLike, WorkerNotStarted } from '../../src/web/call-in-worker.js';

/** A worker whose script is missing, which fires an error event. */
function missingWorker(): WorkerLike {
  const listeners = new Map<string, (event: never) => void>();
  setTimeout(() => listeners.get('error')?.({} as never));
  return {
    postMessage: () => undefined,
    addEventListener: (type: string, listener: (event: never) => void) => void listeners.set(type, listener),
    terminate: () => undefined,
  };
}

it('rejects with the error of its listener, and ends the worker', async () => {
  const thrown = new TypeError('mine');
  const onProgress = jest.fn(() => {
    throw thrown;
  });
  const terminate = jest.fn();
  const start = (): WorkerLike => {
    const listeners: ((event: never) => void)[] = [];
    return {
      postMessage() {
        const progress = { stage: 'load', done: 0, total: 1 };
        for (const data of [{ beat: true }, { progress }, { progress }])
          for (const listener of listeners) setTimeout(() => listener({ data } as never));
      },
      addEventListener: (type: string, listener: (event: never) => void) =>
        void (type === 'message' && listeners.push(listener)),
      terminate,
    };
  };
  const request: object = { model: new Map([['onnx/model.onnx', new Uint8Array(1)]]), onProgress };
  await expect(callInWorker('describe', request, { start })).rejects.toBe(thrown);
  expect(onProgress).toHaveBeenCalledTimes(1);
  expect(terminate).toHaveBeenCalledTimes(1);
});

it('rejects if the worker does not start, also while large bytes become blobs', async () => {
  const request: object = { model: new Map([['onnx/model.onnx', new Uint8Array(64 * 2 ** 20)]]) };
  await expect(callInWorker('describe', request, { start: missingWorker })).rejects.toThrow(WorkerNotStarted);
}, 10_000);
