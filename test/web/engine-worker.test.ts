import { EngineError } from '../../src/errors.js';
import type { WorkerLike } from '../../src/web/call-in-worker.js';
import { type EngineResponse, startEngineWorker } from '../../src/web/engine-worker.js';
import { serveEngine } from '../../src/web/serve-engine.js';
import { createGraphBuilder } from '../support/graph-builder.js';

/** A worker double that clones messages as browsers do. */
function fakeWorker() {
  let receive: (event: MessageEvent) => void = () => undefined;
  let fail: (event: ErrorEvent) => void = () => undefined;
  const requests: { readonly ask: string; readonly bytes: number }[] = [];
  const answer = serveEngine((answer: EngineResponse, transfer = []) => {
    const data = structuredClone(answer, { transfer });
    queueMicrotask(() => receive({ data } as MessageEvent));
  });
  const worker: WorkerLike & { isOver: boolean } = {
    isOver: false,
    postMessage(message: never) {
      const question = structuredClone(message) as Parameters<typeof answer>[0];
      const [, feeds] = question.params as unknown as [number, Record<string, { data: Float32Array }>?];
      requests.push({ ask: question.method, bytes: feeds?.x?.data.buffer.byteLength ?? 0 });
      if (!worker.isOver) void answer(question);
    },
    addEventListener(type: 'message' | 'error', listener: never) {
      if (type === 'message') receive = listener;
      else fail = listener;
    },
    terminate() {
      worker.isOver = true;
    },
  };
  return { worker, requests, fail: (message?: string) => fail({ message } as ErrorEvent) };
}

/** A graph that doubles its input. */
function double(): Uint8Array {
  const g = createGraphBuilder({ opset: 17 });
  g.named('y', 'Add', [g.input('x', 1, ['rows']), 'x']);
  g.output('y', 1, ['rows']);
  return g.bytes();
}

const start = async (fake = fakeWorker()) => ({
  ...fake,
  ...(await startEngineWorker({}, ['wasm'], () => fake.worker)),
});

it('runs graphs in its worker, and has the name of the engine there', async () => {
  const { engine, requests, worker, end } = await start();
  expect(engine).toMatchObject({ name: expect.stringMatching(/^onnxruntime .*\(wasm\)$/), copiesInputs: true });
  const session = await engine.load(double());
  expect(session.inputs).toEqual([{ name: 'x', type: 'float32', dims: ['rows'] }]);
  // A view of a larger buffer, of which only the view is sent.
  const data = new Float32Array(1000).fill(3).subarray(10, 12);
  const { y } = await session.run({ x: { type: 'float32', dims: [2], data } });
  expect([...y!.data]).toEqual([6, 6]);
  expect(requests.at(-1)).toEqual({ ask: 'run', bytes: 8 });
  await session.release();
  end('over');
  expect(worker.isOver).toBe(true);
});

it('throws errors of the same classes', async () => {
  const { engine, end } = await start();
  await expect(engine.load(Uint8Array.of(1, 2, 3))).rejects.toThrow(EngineError);
  end('over');
});

it('rejects pending and later calls with the reason that it was ended with', async () => {
  const { engine, worker, end } = await start();
  const session = await engine.load(double());
  worker.postMessage = () => undefined;
  const running = session.run({ x: { type: 'float32', dims: [1], data: Float32Array.of(1) } });
  end(new Error('enough'));
  await expect(running).rejects.toThrow('enough');
  await expect(session.release()).rejects.toThrow('enough');
});

it('rejects pending calls if the worker fails', async () => {
  const { engine, fail } = await start();
  const session = await engine.load(double());
  const running = session.run({ x: { type: 'float32', dims: [1], data: Float32Array.of(1) } });
  fail('out of memory');
  await expect(running).rejects.toThrow('the worker that runs graphs failed: out of memory.');
});
