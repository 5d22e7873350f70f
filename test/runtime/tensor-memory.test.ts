import { collectStatistics } from '../../src/activations/collect-statistics.js';
import { copyModel } from '../../src/onnx/edit-weights.js';
import { createBlockRunner, makeBatches } from '../../src/runtime/block-runner.js';
import type { Engine, Tensor, Tensors } from '../../src/runtime/engine.js';
import { releaseTensor, retainTensor, trackTensor } from '../../src/runtime/tensor-memory.js';
import { createMemoryStore, createSpilledStore, type ScratchFile } from '../../src/runtime/tensor-store.js';
import { createValueCache } from '../../src/runtime/value-cache.js';
import { testEngine } from '../support/engine.js';
import { loadTinyLlama, someWindows } from '../support/tiny-llama.js';

/** A tensor as an engine returns it. */
function engineTensor(...data: number[]): Tensor {
  const tensor: Tensor = { type: 'float32', dims: [data.length], data: Float32Array.from(data) };
  trackTensor(tensor);
  return tensor;
}

const isFreed = ({ data }: Tensor): boolean => data.length === 0;

describe('releaseTensor', () => {
  it('frees a tensor when its last holder releases it', () => {
    const tensor = engineTensor(1, 2);
    retainTensor(tensor);
    releaseTensor(tensor);
    expect(tensor.data).toEqual(Float32Array.of(1, 2));
    releaseTensor(tensor);
    expect(isFreed(tensor)).toBe(true);
    releaseTensor(tensor);
  });

  it('does not free tensors of the caller, or views of larger buffers', () => {
    const own: Tensor = { type: 'float32', dims: [1], data: Float32Array.of(3) };
    const part: Tensor = { ...own, data: new Float32Array(new ArrayBuffer(8), 4) };
    trackTensor(part);
    for (const tensor of [own, part]) {
      retainTensor(tensor);
      releaseTensor(tensor);
      releaseTensor(tensor);
      expect(tensor.data).toHaveLength(1);
    }
  });
});

describe('holders of a tensor', () => {
  it('hidden states in memory hold it until it is replaced or they are disposed of', async () => {
    const states = createMemoryStore();
    const tensors = [engineTensor(1), engineTensor(2)];
    for (const tensor of tensors) {
      await states.put(0, tensor);
      releaseTensor(tensor);
    }
    expect(tensors.map(isFreed)).toEqual([true, false]);
    expect((await states.get(0)).data).toEqual(Float32Array.of(2));
    await states.put(0, tensors[1]!);
    expect(isFreed(tensors[1]!)).toBe(false);
    await states.dispose();
    expect(isFreed(tensors[1]!)).toBe(true);
  });

  it('spilled hidden states hold it until it is written', async () => {
    let written = new Uint8Array();
    let finish = () => {};
    const file: ScratchFile = {
      readInto: async (_offset, bytes) => bytes.set(written),
      async write(_offset, bytes) {
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        written = bytes.slice();
      },
      dispose: async () => undefined,
    };
    const states = createSpilledStore(file);
    const tensor = engineTensor(5, 6);
    await states.put(0, tensor);
    releaseTensor(tensor);
    await Promise.resolve();
    expect(isFreed(tensor)).toBe(false);
    finish();
    expect((await states.get(0)).data).toEqual(Float32Array.of(5, 6));
    expect(isFreed(tensor)).toBe(true);
  });

  it('held values hold it until it is dropped or forgotten', () => {
    const held = createValueCache();
    const tensors = [engineTensor(1), engineTensor(2)];
    held.want(['x']);
    tensors.forEach((tensor, batch) => {
      held.put('x', batch, tensor);
      releaseTensor(tensor);
    });
    held.finish(['x']);
    held.endStage();
    held.drop(0);
    expect(tensors.map(isFreed)).toEqual([true, false]);
    held.forget();
    expect(tensors.map(isFreed)).toEqual([true, true]);
  });
});

it('a forward run frees its results except the current hidden states and side values', async () => {
  const loaded = await loadTinyLlama();
  const { analysed } = loaded;
  const results: Tensors[] = [];
  const weights: Uint8Array[] = [];
  const model = copyModel(loaded.model);
  for (const [name, handle] of model.weights) {
    const read = async (range?: Parameters<typeof handle.read>[0]) => {
      const bytes = await handle.read(range);
      weights.push(bytes);
      return bytes;
    };
    model.weights.set(name, { ...handle, read });
  }
  const engine: Engine = {
    ...testEngine,
    async load(bytes, options) {
      const session = await testEngine.load(bytes, options);
      return {
        ...session,
        async run(feeds, fetches) {
          const found = await session.run(feeds, fetches);
          results.push(found);
          return found;
        },
      };
    },
  };
  const { detected, facts, tokenInput } = analysed;
  const { cuts } = detected.partition;
  const batches = makeBatches(someWindows(3, 20), 2);
  const states = createMemoryStore();
  const runner = createBlockRunner({ engine, model, cuts, facts, tokenInput, batches, states });
  await runner.advance();
  await runner.pass();
  const linear = detected.layout.modules.find(({ segment }) => segment === 2)!.output;
  const channels = Int32Array.from({ length: linear.inputCount }, (_, channel) => channel);
  await collectStatistics(runner, { targets: [{ linear, needs: 'gram', groups: [channels] }] });
  const alive = results.flatMap((found) => Object.entries(found)).filter(([, tensor]) => !isFreed(tensor));
  const sideValues = alive.filter(([name]) => name !== cuts[1]);
  expect(results).toHaveLength(2 * batches.length);
  expect(weights.length).toBeGreaterThan(0);
  expect(weights.filter(({ byteLength }) => byteLength > 0)).toEqual([]);
  expect(alive).toHaveLength(batches.length + sideValues.length);
  expect(sideValues.map(([name]) => runner.side.has(name))).toEqual(sideValues.map(() => true));
  await runner.dispose();
  expect(alive.filter(([name, tensor]) => name === cuts[1] && !isFreed(tensor))).toEqual([]);
});
