import { OptionError } from '../../src/errors.js';
import { generate, generateBatch, generateText, type SavedBatch } from '../../src/evaluation/generate.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { createFakeModel } from './fake-model.js';
import { loadTinyLlama, tinyLlamaTokenizer } from './tiny-llama.js';

/** Counts up: after token t comes t + 1, modulo 5. */
const counting = () =>
  createFakeModel(5, (seen) => [0, 1, 2, 3, 4].map((token) => (token === (seen.at(-1)! + 1) % 5 ? 9 : 0))).model;

async function collect(tokens: AsyncIterable<number>): Promise<number[]> {
  const collected: number[] = [];
  for await (const token of tokens) collected.push(token);
  return collected;
}

describe('generate', () => {
  it('generates newTokens tokens', async () => {
    expect(await collect(generate(counting(), [3], { newTokens: 4 }))).toEqual([4, 0, 1, 2]);
  });

  it('stops at a stop token, which it does not return', async () => {
    expect(await collect(generate(counting(), [0], { stopTokenIds: [3] }))).toEqual([1, 2]);
  });

  it('stops when the context is full', async () => {
    expect(await collect(generate(counting(), [3, 4], { newTokens: 9, contextLength: 4 }))).toEqual([0, 1, 2]);
    expect(await collect(generate(counting(), [3, 4], { newTokens: 9, contextLength: 2 }))).toEqual([0]);
  });

  it('stops on an aborted signal', async () => {
    await expect(collect(generate(counting(), [0], { signal: AbortSignal.abort() }))).rejects.toThrow(/abort/i);
  });

  it.each([
    ['an empty prompt', [], {}],
    ['an id beyond the vocabulary', [5], {}],
    ['no new tokens', [0], { newTokens: 0 }],
    ['a negative temperature', [0], { temperature: -1 }],
    ['a prompt beyond the context', [0, 1, 2], { contextLength: 2 }],
  ])('refuses %s', async (_, prompt, options) => {
    await expect(collect(generate(counting(), prompt, options))).rejects.toThrow(OptionError);
  });
});

describe('generateBatch', () => {
  it('starts every sequence with the prompt and fills it', async () => {
    const sequences = await generateBatch(counting(), { promptIds: [1, 2], count: 3, length: 6, temperature: 0 });
    expect(sequences.map((sequence) => [...sequence])).toEqual(Array(3).fill([1, 2, 3, 4, 0, 1]));
  });

  it('resumes from any step to the same tokens', async () => {
    const model = await loadTinyLlama();
    const options = { promptIds: [0], count: 6, length: 12, batchSize: 3, seed: 4 };
    const saved: SavedBatch[] = [];
    const whole = await generateBatch(model, {
      ...options,
      onStep: async (save) => void saved.push(structuredClone(save()!)),
    });
    for (const from of [saved[0]!, saved[6]!, saved[10]!])
      expect(await generateBatch(model, { ...options, from })).toEqual(whole);
    expect(saved.map(({ first }) => first)).toEqual([...Array(11).fill(0), ...Array(11).fill(3)]);
    const { first } = saved[15]!;
    const rest = { ...options, count: 3, firstSequence: first, from: saved[15] };
    expect(await generateBatch(model, rest)).toEqual(whole.slice(first));
    await model.release();
  });

  it('reports progress after every token', async () => {
    const done: number[] = [];
    await generateBatch(counting(), {
      promptIds: [0],
      count: 3,
      length: 3,
      batchSize: 2,
      onProgress: (progress) => done.push(progress.done),
    });
    expect(done).toEqual([2, 4, 5, 6]);
  });

  it.each([
    ['a length that the prompt fills', { promptIds: [0, 1], count: 1, length: 2 }],
    ['no sequences', { promptIds: [0], count: 0, length: 2 }],
    ['no batch', { promptIds: [0], count: 1, length: 2, batchSize: 0 }],
    ['no prompt', { promptIds: [], count: 1, length: 2 }],
  ])('refuses %s', async (_, options) => {
    await expect(generateBatch(counting(), options)).rejects.toThrow(OptionError);
  });
});

describe('on tiny-llama', () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await loadTinyLlama();
  });
  afterAll(() => model.release());

  it('generates the same tokens greedily as without a cache', async () => {
    const prompt = [...tinyLlamaTokenizer.encode('12 + 30 =')];
    const written = await collect(generate(model, prompt, { newTokens: 8 }));
    const again: number[] = [];
    while (again.length < 8) {
      const logits = await model.createReader().read([Int32Array.of(...prompt, ...again)]);
      again.push(logits.indexOf(Math.max(...logits)));
    }
    expect(written).toEqual(again);
  });

  it('continues a sum with a number, and an empty prompt with text', async () => {
    const text = await generateText(model, {
      tokenizer: tinyLlamaTokenizer,
      prompt: '21 + 11 = 32\n2 + 3 =',
      newTokens: 6,
    });
    expect(text).toMatch(/^ \d+\n/);
    expect(await generateText(model, { tokenizer: tinyLlamaTokenizer, prompt: '', newTokens: 4 })).not.toBe('');
  });

  it('draws the same sequences for a seed in batches of any size', async () => {
    const write = (seed: number, batchSize: number) =>
      generateBatch(model, { promptIds: [0], count: 4, length: 12, seed, batchSize });
    const together = await write(3, 4);
    expect(await write(3, 3)).toEqual(together);
    expect(await write(4, 4)).not.toEqual(together);
    expect(new Set(together.map(String)).size).toBe(4);
  });
});
