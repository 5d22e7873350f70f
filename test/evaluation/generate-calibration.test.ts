import { OptionError, UnsupportedModelError } from '../../src/errors.js';
import { chooseBatchSize, generateCalibration, type WindowStore } from '../../src/evaluation/generate-calibration.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import type { Progress } from '../../src/progress.js';
import { createFakeModel } from './fake-model.js';
import { loadTinyLlama, tinyLlamaTokenizer } from './tiny-llama.js';

/** The distribution after a token, by token: 0 begins a text. */
const LOGITS = [
  [0, 1, 2, -1],
  [0.5, 0, 0, 2],
  [-2, 0, 1, 1],
  [1, 1, -3, 0],
];

const bigram = () => createFakeModel(4, (seen) => LOGITS[seen.at(-1)!]!).model;
const shape = { windowCount: 6, windowLength: 12, startToken: 0 };

function memoryStore(saved: readonly Int32Array[] = []) {
  const windows = [...saved];
  const store: WindowStore = { saved, append: async (added) => void windows.push(...added) };
  return { store, windows };
}

describe('generateCalibration', () => {
  it('draws every token from the whole distribution of the model', async () => {
    const { windows } = await generateCalibration(bigram(), {
      ...shape,
      windowCount: 32,
      windowLength: 257,
      documentLength: 257,
      seed: 11,
    });
    for (const [from, logits] of LOGITS.entries()) {
      const counts = [0, 0, 0, 0];
      for (const window of windows) {
        for (let at = 1; at < window.length; at++) if (window[at - 1] === from) counts[window[at]!]!++;
      }
      // 16.27 is the 0.999 quantile of chi-square with 3 degrees of freedom.
      expect(chiSquare(counts, logits)).toBeLessThan(16.27);
      expect(chiSquare(counts, [...logits].reverse())).toBeGreaterThan(1000);
    }
  });

  it('divides logits by the temperature', async () => {
    const firstOf = async (temperature: number) => {
      const { windows } = await generateCalibration(bigram(), {
        ...shape,
        windowCount: 2000,
        windowLength: 2,
        temperature,
      });
      const counts = [0, 0, 0, 0];
      for (const window of windows) counts[window[1]!]!++;
      return counts;
    };
    const scaled = (temperature: number) => LOGITS[0]!.map((logit) => logit / temperature);
    expect(chiSquare(await firstOf(2), scaled(2))).toBeLessThan(16.27);
    expect(chiSquare(await firstOf(0.5), scaled(0.5))).toBeLessThan(16.27);
  });

  it('records seed, start token and temperature', async () => {
    const { windows, provenance } = await generateCalibration(bigram(), { ...shape, seed: 4 });
    expect(windows).toHaveLength(6);
    expect(windows.every((window) => window.length === 12 && window[0] === 0)).toBe(true);
    expect(provenance).toMatchObject({
      kind: 'generated',
      windowCount: 6,
      generated: { seed: 4, startToken: 0, temperature: 1 },
    });
  });

  it('fills windows with independent documents', async () => {
    const alone = await generateCalibration(bigram(), { ...shape, windowCount: 18, windowLength: 5 });
    const options = { ...shape, windowCount: 6, windowLength: 14, documentLength: 5 };
    const { windows, provenance } = await generateCalibration(bigram(), options);
    const filled = windows.map((_, at) => alone.windows.slice(3 * at, 3 * at + 3).flatMap((ids) => [...ids]));
    expect(windows.map((window) => [...window])).toEqual(filled.map((ids) => ids.slice(0, 14)));
    expect(provenance).toMatchObject({ documentCount: 18, windowCount: 6, windowLength: 14 });
    expect((await generateCalibration(bigram(), { ...options, batchSize: 2 })).windows).toEqual(windows);
    expect((await generateCalibration(bigram(), { ...options, batchSize: 7 })).windows).toEqual(windows);
    const { store } = memoryStore(windows.slice(0, 4));
    expect((await generateCalibration(bigram(), { ...options, store })).windows).toEqual(windows);
  });

  it('resumes from saved windows to the same set', async () => {
    const whole = await generateCalibration(bigram(), shape);
    const { store, windows } = memoryStore(whole.windows.slice(0, 4));
    const resumed = await generateCalibration(bigram(), { ...shape, store });
    expect(resumed).toEqual(whole);
    expect(windows).toEqual(whole.windows);
  });

  it('does not run the model if enough windows were saved', async () => {
    const { windows } = await generateCalibration(bigram(), shape);
    const { model, calls } = createFakeModel(4, () => {
      throw new Error('asked');
    });
    const again = await generateCalibration(model, { ...shape, windowCount: 5, store: memoryStore(windows).store });
    expect(again.windows).toEqual(windows.slice(0, 5));
    expect(calls).toEqual([]);
  });

  it('saves finished batches before it stops', async () => {
    const controller = new AbortController();
    const { store, windows } = memoryStore();
    const stopped = generateCalibration(bigram(), {
      ...shape,
      batchSize: 2,
      store,
      signal: controller.signal,
      onProgress: ({ done }) => done > 50 && controller.abort(),
    });
    await expect(stopped).rejects.toThrow(/abort/i);
    expect(windows).toEqual((await generateCalibration(bigram(), shape)).windows.slice(0, 4));
  });

  it('counts tokens of all batches, and saved windows as done', async () => {
    const seen: Progress[] = [];
    const { windows } = await generateCalibration(bigram(), shape);
    await generateCalibration(bigram(), {
      ...shape,
      batchSize: 2,
      store: memoryStore(windows.slice(0, 2)).store,
      onProgress: (progress) => seen.push(progress),
    });
    expect(seen.map(({ done }) => done)).toEqual(Array.from({ length: 22 }, (_, step) => 22 + 2 * (step + 1)));
    expect(seen.at(-1)).toMatchObject({ stage: 'generate', done: 66, total: 66, detail: '4 of 6 windows' });
  });

  it('continues after an end token', async () => {
    const cycle = createFakeModel(4, (seen) =>
      [0, 1, 2, 3].map((token) => (token === (seen.at(-1)! + 1) % 4 ? 99 : 0)),
    );
    const options = { windowCount: 1, windowLength: 8, startToken: 0, endTokens: [3] };
    const { windows } = await generateCalibration(cycle.model, options);
    expect([...windows[0]!]).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
  });

  it('refuses a model that generates mostly end tokens', async () => {
    const ending = createFakeModel(4, () => [0, 0, 20, 0]).model;
    const { store, windows } = memoryStore();
    const written = generateCalibration(ending, { ...shape, endTokens: [2], store });
    await expect(written).rejects.toThrow(UnsupportedModelError);
    await expect(written).rejects.toThrow(/66 of the first 66 tokens .*startToken/);
    expect(windows).toEqual([]);
  });

  it('accepts a model that ends every second text at once, and counts the start token as an end', async () => {
    const following = (next: readonly number[]) =>
      createFakeModel(4, (seen) => [0, 1, 2, 3].map((token) => (token === next[seen.at(-1)!] ? 99 : 0))).model;
    const options = { windowCount: 1, windowLength: 5, startToken: 0, endTokens: [2] };
    const { windows } = await generateCalibration(following([2, 2, 1, 0]), options);
    expect([...windows[0]!]).toEqual([0, 2, 1, 2, 1]);
    await expect(generateCalibration(following([0, 0, 0, 0]), options)).rejects.toThrow(/4 of the first 4 tokens/);
  });

  it('generates only short documents with a model without a cache', async () => {
    const uncached: LanguageModel = { ...bigram(), hasCache: false };
    expect((await generateCalibration(uncached, shape)).windows).toHaveLength(6);
    const parts = await generateCalibration(uncached, { ...shape, windowLength: 129 });
    expect(parts.windows[0]).toHaveLength(129);
    const long = generateCalibration(uncached, { ...shape, windowLength: 129, documentLength: 129 });
    await expect(long).rejects.toThrow(UnsupportedModelError);
    await expect(long).rejects.toThrow(/no KV cache.*past key values/);
  });

  it.each([
    ['a start outside the vocabulary', { startToken: 4 }, /startToken is 4; expected a token id from 0 to 3/],
    ['no start', { startToken: Number.NaN }, /startToken/],
    ['a temperature near 0', { temperature: 0.001 }, /all documents are the same/],
    ['documents of one token', { documentLength: 1 }, /documentLength is 1, .*at least 2/],
    ['no windows', { windowCount: 0 }, /windowCount/],
    ['windows of one token', { windowLength: 1 }, /windowLength/],
    ['no batch', { batchSize: 0 }, /batchSize/],
  ])('refuses %s', async (_, options, message) => {
    const written = generateCalibration(bigram(), { ...shape, ...options });
    await expect(written).rejects.toThrow(OptionError);
    await expect(written).rejects.toThrow(message);
  });
});

it('generates as many documents at once as memory allows, in even batches', () => {
  const documents = { count: 32, length: 512 };
  const cacheWidth = 30 * 2 * 3 * 64;
  expect(chooseBatchSize(documents, { cacheWidth })).toBe(11);
  expect(chooseBatchSize(documents, { cacheWidth }, 0)).toBe(1);
  expect(chooseBatchSize(documents, { cacheWidth, rowLimit: 1 })).toBe(1);
  expect(chooseBatchSize(documents, {})).toBe(32);
  expect(chooseBatchSize({ ...documents, count: 40 }, { cacheWidth: 0 })).toBe(20);
});

describe('on tiny-llama', () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await loadTinyLlama();
  });
  afterAll(() => model.release());

  const write = (options: object) =>
    generateCalibration(model, {
      windowCount: 5,
      windowLength: 24,
      startToken: 0,
      endTokens: [0],
      seed: 3,
      ...options,
    });

  it('generates the same windows for a seed in batches of any size', async () => {
    const { windows, provenance } = await write({});
    expect((await write({ batchSize: 3 })).provenance).toEqual(provenance);
    expect((await write({ batchSize: 1 })).provenance).toEqual(provenance);
    expect((await write({ seed: 4 })).provenance.tokensSha256).not.toBe(provenance.tokensSha256);
    expect(new Set(windows.map(String)).size).toBe(5);
  });

  it('generates English words', async () => {
    const { windows } = await write({ windowCount: 16, windowLength: 40 });
    const texts = windows.map((window) => tinyLlamaTokenizer.decode(window, { skipSpecialTokens: true }));
    const words = texts.join(' ').match(/[a-z]+/gi) ?? [];
    expect(words.length).toBeGreaterThan(100);
    expect(
      words.filter((word) => ['the', 'a', 'of', 'and', 'to', 'in', 'is'].includes(word.toLowerCase())).length,
    ).toBeGreaterThan(10);
  });

  it('reports the size of its keys and values', () => {
    expect(model).toMatchObject({ cacheWidth: 6 * 2 * 4 * 24, rowLimit: Number.POSITIVE_INFINITY });
  });
});

/** Pearson's statistic of counts against the softmax of logits. */
function chiSquare(counts: readonly number[], logits: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const weights = logits.map(Math.exp);
  const sum = weights.reduce((all, weight) => all + weight, 0);
  return counts.reduce((statistic, count, token) => {
    const expected = (total * weights[token]!) / sum;
    return statistic + (count - expected) ** 2 / expected;
  }, 0);
}
