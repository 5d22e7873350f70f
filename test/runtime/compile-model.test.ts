import { createLanguageModel } from '../../src/evaluation/session-language-model.js';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { compileBlockByBlock, compileModel } from '../../src/runtime/compile-model.js';
import type { Engine, Session } from '../../src/runtime/engine.js';
import { createGraphBuilder } from '../support/graph-builder.js';
import { readTinyLlama, relativeGap, someWindows } from '../support/tiny-llama.js';

const wasm = await createNodeEngine({ executionProvider: 'wasm' });

/** The engine, with counts of its created, run and released sessions. */
function counting(failAt = Number.POSITIVE_INFINITY) {
  const count = { made: 0, ran: 0, released: 0, mostAtOnce: 0 };
  const load: Engine['load'] = async (bytes, options) => {
    count.made += 1;
    if (count.made === failAt) throw new Error('no room');
    const session = await wasm.load(bytes, options);
    count.mostAtOnce = Math.max(count.mostAtOnce, count.made - count.released);
    const run: Session['run'] = (feeds, fetches) => {
      count.ran += 1;
      return session.run(feeds, fetches);
    };
    const release = async () => {
      count.released += 1;
      await session.release();
    };
    return { ...session, run, release };
  };
  return { engine: { ...wasm, load } as Engine, count };
}

const open = (bytes: Uint8Array) => loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('none'));

/** Logits of two whole windows, and of tokens that continue from their caches. */
async function logitsOf(session: Session): Promise<number[]> {
  const model = await createLanguageModel({ engine: wasm, session });
  const whole = await model.readLogits(someWindows(2, 8));
  const reader = model.createReader();
  const [first, second] = [someWindows(2, 4), someWindows(2, 5).map((tokens) => tokens.subarray(4))];
  const steps = [...(await reader.read(first)), ...(await reader.read(second))];
  return [...(whole.data as Float32Array), ...steps];
}

it('gives the same logits in pieces, with the inputs and outputs of the model', async () => {
  const { engine, count } = counting();
  const whole = await wasm.load(readTinyLlama());
  const pieces = await compileModel(engine, await open(readTinyLlama()));
  expect(count.made).toBeGreaterThan(2);
  const namesOf = ({ inputs, outputs }: Session) => [inputs, outputs].map((values) => values.map(({ name }) => name));
  expect(namesOf(pieces)).toEqual(namesOf(whole));
  expect(await logitsOf(pieces)).toEqual(await logitsOf(whole));
  await pieces.release();
  expect(count.released).toBe(count.made);
});

it('runs only the pieces that are needed', async () => {
  const { engine, count } = counting();
  const pieces = await compileModel(engine, await open(readTinyLlama()));
  const runOnce = async (fetches: readonly string[]) => {
    count.ran = 0;
    const model = await createLanguageModel({
      engine: wasm,
      session: { ...pieces, run: (feeds) => pieces.run(feeds, fetches) },
    });
    await model.readLogits(someWindows(1, 4)).catch(() => undefined);
    return count.ran;
  };
  const [first, all] = [await runOnce(['present.0.key']), await runOnce(['logits'])];
  expect(all).toBe(count.made);
  expect(first).toBeLessThan(all);
});

it('opens one piece at a time in each run, and stops between pieces when aborted', async () => {
  const { engine, count } = counting();
  const whole = await wasm.load(readTinyLlama());
  const stop = new AbortController();
  const run = await compileBlockByBlock(engine, await open(readTinyLlama()), { signal: stop.signal });
  expect(count.mostAtOnce).toBe(1);
  const opened = count.made;
  const [found, expected] = [await logitsOf(run), await logitsOf(whole)].map((logits) => Float32Array.from(logits));
  expect(relativeGap(found!, expected!)).toBeLessThan(1e-5);
  expect(count.mostAtOnce).toBe(1);
  expect(count.made).toBe(opened + 3 * opened);
  expect(count.released).toBe(count.made);
  stop.abort();
  await expect(logitsOf(run)).rejects.toThrow(/abort/);
});

it('releases its sessions if one cannot be created', async () => {
  const { engine, count } = counting(3);
  await expect(compileModel(engine, await open(readTinyLlama()))).rejects.toThrow('no room');
  expect(count).toMatchObject({ made: 3, released: 2 });
});

it('compiles a model without token embeddings as one piece', async () => {
  const { engine, count } = counting();
  const g = createGraphBuilder({ opset: 17 });
  g.named('logits', 'MatMul', [g.input('x', 1, ['rows', 4]), g.weight([4, 4])]);
  g.output('logits', 1, ['rows', 4]);
  await (await compileModel(engine, await open(g.bytes()))).release();
  expect(count).toMatchObject({ made: 1, released: 1 });
});
