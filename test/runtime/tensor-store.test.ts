import type { Tensor } from '../../src/runtime/engine.js';
import { createSpilledStore, type ScratchFile } from '../../src/runtime/tensor-store.js';

/** A scratch file in memory whose calls end, in order, when the test allows it. */
function slowFile() {
  const bytes = new Uint8Array(1024);
  const waiting: (() => void)[] = [];
  const log: string[] = [];
  const turn = (what: string) =>
    new Promise<void>((resolve) => {
      waiting.push(() => {
        log.push(what);
        resolve();
      });
    });
  const file: ScratchFile = {
    async readInto(offset, into) {
      await turn(`read ${offset}`);
      into.set(bytes.subarray(offset, offset + into.length));
    },
    async write(offset, part) {
      await turn(`write ${offset}`);
      bytes.set(part, offset);
    },
    async dispose() {
      log.push('closed');
    },
  };
  /** Ends all calls, including those that follow. */
  const endAll = async () => {
    for (let idle = 0; idle < 5; idle += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      for (const next of waiting.splice(0)) {
        next();
        idle = 0;
      }
    }
  };
  return { file, endAll, log };
}

const tensor = (...data: number[]): Tensor => ({ type: 'float32', dims: [data.length], data: Float32Array.from(data) });

it('spilled states are written in the background, and read ahead of the next call', async () => {
  const { file, endAll, log } = slowFile();
  const states = createSpilledStore(file);
  await states.put(0, tensor(1, 2));
  const second = states.put(1, tensor(3, 4));
  expect(log).toEqual([]);
  await endAll();
  await second;
  expect(log).toEqual(['write 0', 'write 8']);
  const first = states.get(0);
  await endAll();
  expect((await first).data).toEqual(Float32Array.of(1, 2));
  expect(log.slice(2)).toEqual(['read 0', 'read 8']);
  expect((await states.get(1)).data).toEqual(Float32Array.of(3, 4));
  expect(log).toHaveLength(4);
});

it('a batch that is overwritten while it is read ahead is read again', async () => {
  const { file, endAll } = slowFile();
  const states = createSpilledStore(file);
  const run = async <T>(action: Promise<T>): Promise<T> => {
    await endAll();
    return action;
  };
  await states.put(0, tensor(1, 2));
  await run(states.put(1, tensor(3, 4)));
  await run(states.get(0));
  await run(states.put(1, tensor(5, 6)));
  expect((await run(states.get(1))).data).toEqual(Float32Array.of(5, 6));
  // A larger one goes to a place of its own.
  await run(states.put(0, tensor(7, 8, 9)));
  expect((await run(states.get(0))).data).toEqual(Float32Array.of(7, 8, 9));
  expect((await run(states.get(1))).data).toEqual(Float32Array.of(5, 6));
});

it('a failed background write rejects the calls that follow', async () => {
  const full = new Error('the disk is full');
  const { file } = slowFile();
  const states = createSpilledStore({ ...file, write: () => Promise.reject(full) });
  await states.put(0, tensor(1));
  await expect(states.put(1, tensor(2))).rejects.toBe(full);
  await expect(states.get(0)).rejects.toBe(full);
  await states.dispose();
});

it('the file is closed after all pending calls', async () => {
  const { file, endAll, log } = slowFile();
  const states = createSpilledStore(file);
  await states.put(0, tensor(1, 2));
  const disposed = states.dispose();
  await endAll();
  await disposed;
  expect(log).toEqual(['write 0', 'closed']);
});
