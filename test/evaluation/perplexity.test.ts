import { NumericalError, OptionError } from '../../src/errors.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { measurePerplexity, measureTextPerplexity, type WindowScore } from '../../src/evaluation/perplexity.js';
import { cutScoredWindows } from '../../src/evaluation/scored-windows.js';
import { createFakeModel } from './fake-model.js';
import { loadTinyLlama, readTinyLlamaFile, tinyLlamaTokenizer } from './tiny-llama.js';

const uniform = () => createFakeModel(4, () => [0, 0, 0, 0]);
const tokens = Int32Array.from({ length: 10 }, (_, at) => at % 4);

describe('bits per byte', () => {
  it('counts the bytes of tokens, parts of characters included', () => {
    const text = 'Tür, 日本 und 😀 <|endoftext|> \n';
    const ids = tinyLlamaTokenizer.encode(text);
    expect(tinyLlamaTokenizer.countBytes!(ids)).toBe(new TextEncoder().encode(text).length);
    expect(tinyLlamaTokenizer.countBytes!(ids.subarray(0, 0))).toBe(0);
  });

  it('are the bits of the scored tokens divided by their bytes', async () => {
    const model = fixedModel(2048);
    const text = 'The bridge is longer in summer: fünf Zentimeter.';
    const leading = { leadingTokens: [0] };
    const scored = await measureTextPerplexity(model, { text, tokenizer: tinyLlamaTokenizer }, leading);
    const bytes = new TextEncoder().encode(text).length;
    expect(scored.bitsPerByte).toBeCloseTo((scored.tokenCount * 11) / bytes, 6);
    const { countBytes: _, ...foreign } = tinyLlamaTokenizer;
    const unknown = await measureTextPerplexity(model, { text, tokenizer: foreign }, leading);
    expect(unknown.bitsPerByte).toBeUndefined();
  });
});

/** A model that gives each of `count` tokens the same probability. */
function fixedModel(count: number): LanguageModel {
  const score = async (sequences: readonly Int32Array[], firstScored: number) =>
    new Float32Array(sequences.reduce((sum, { length }) => sum + length - firstScored, 0)).fill(Math.log(count));
  return { vocabularySize: count, score } as unknown as LanguageModel;
}

describe('measurePerplexity', () => {
  it('has no bits per byte of tokens without bytes', async () => {
    const result = await measurePerplexity(uniform().model, tokens, { countBytes: () => 0 });
    expect(result).not.toHaveProperty('bitsPerByte');
  });

  it('is the vocabulary size for a uniform model', async () => {
    const { model, calls } = uniform();
    const result = await measurePerplexity(model, tokens, { windowLength: 4 });
    expect(result.perplexity).toBeCloseTo(4, 5);
    // Windows of 4, 4 and 2 tokens, of which each first one is not scored.
    expect(result).toMatchObject({ tokenCount: 7, windowCount: 3 });
    expect(calls.map(({ sequences }) => sequences[0]!.length)).toEqual([4, 4, 2]);
  });

  it('scores first tokens after a BOS', async () => {
    const { model, calls } = uniform();
    const result = await measurePerplexity(model, tokens, { windowLength: 4, leadingTokens: [0] });
    expect(result.tokenCount).toBe(10);
    expect([...calls[1]!.sequences[0]!]).toEqual([0, 0, 1, 2, 3]);
  });

  it('scores a single token after a BOS', async () => {
    expect((await measurePerplexity(uniform().model, [1], { leadingTokens: [0] })).tokenCount).toBe(1);
  });

  it('counts the tokens that begin every window as read by the model', async () => {
    const { model, calls } = uniform();
    const limits = { leadingTokens: [0], contextLength: 5 };
    expect((await measurePerplexity(model, tokens, limits)).protocol.windowLength).toBe(4);
    expect(Math.max(...calls.map(({ sequences }) => sequences[0]!.length))).toBe(5);
    expect((await measurePerplexity(model, tokens, { ...limits, windowLength: 4 })).tokenCount).toBe(10);
    await expect(measurePerplexity(model, tokens, { ...limits, windowLength: 5 })).rejects.toThrow(
      'windowLength is 5, but the model reads at most 4 tokens after the 1 that begin every window',
    );
  });

  it('gives the same result for any batch size', async () => {
    // Predicts that even tokens follow odd ones.
    const { model, calls } = createFakeModel(4, (seen) => (seen.at(-1)! % 2 === 1 ? [1, 0, 1, 0] : [0, 1, 0, 1]));
    for (const windows of [{ windowLength: 3 }, { windowLength: 4, stride: 2 }]) {
      calls.length = 0;
      const one = await measurePerplexity(model, tokens, windows);
      const alone = calls.length;
      const two = await measurePerplexity(model, tokens, { ...windows, batchSize: 2 });
      expect(two).toEqual(one);
      expect(calls.length - alone).toBeLessThan(alone);
    }
  });

  it('scores windowCount windows', async () => {
    const { model } = uniform();
    expect(await measurePerplexity(model, tokens, { windowLength: 4, windowCount: 2 })).toMatchObject({
      windowCount: 2,
      tokenCount: 6,
    });
  });

  it('records what was measured', async () => {
    const { model } = uniform();
    const { protocol } = await measurePerplexity(model, tokens, { windowLength: 4, stride: 2, leadingTokens: [3] });
    expect(protocol).toEqual({
      tokensSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      windowLength: 4,
      stride: 2,
      leadingTokens: [3],
      windowCount: 4,
      tokenCount: 10,
    });
  });

  it('reports progress, and stops on an aborted signal', async () => {
    const { model } = uniform();
    const done: number[] = [];
    await measurePerplexity(model, tokens, { windowLength: 4, onProgress: (progress) => done.push(progress.done) });
    expect(done).toEqual([1, 2, 3]);
    await expect(measurePerplexity(model, tokens, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  });

  it('resumes where an earlier run stopped', async () => {
    const { model, calls } = createFakeModel(4, (seen) => (seen.at(-1)! % 2 === 1 ? [1, 0, 1, 0] : [0, 1, 0, 3]));
    const saved: WindowScore[] = [];
    const log = {
      known: new Map<number, WindowScore>(),
      add: async (added: readonly WindowScore[]) => void saved.push(...added),
    };
    const whole = await measurePerplexity(model, tokens, { windowLength: 3, log });
    expect(saved.map(({ index }) => index)).toEqual([0, 1, 2]);
    const before = calls.length;
    const known = new Map(saved.slice(0, 2).map((score) => [score.index, score]));
    const again = await measurePerplexity(model, tokens, { windowLength: 3, log: { ...log, known } });
    expect(again).toEqual(whole);
    expect(calls.length - before).toBe(1);
  });

  it('scores a short text as one window, and refuses a larger windowLength', async () => {
    const { model } = uniform();
    for (const options of [{}, { windowLength: 10 }])
      expect((await measurePerplexity(model, tokens, options)).protocol).toMatchObject({
        windowLength: 10,
        windowCount: 1,
      });
    await expect(measurePerplexity(model, tokens, { windowLength: 11 })).rejects.toThrow(OptionError);
    await expect(measurePerplexity(model, tokens, { windowLength: 11 })).rejects.toThrow(
      /found 10 tokens, and one window needs 11/,
    );
  });

  it.each([
    ['no tokens', [], {}],
    ['one token', [1], {}],
    ['an id beyond the vocabulary', [1, 4], {}],
    ['a BOS beyond the vocabulary', [1, 2], { leadingTokens: [4] }],
    ['a window of one', [1, 2], { windowLength: 1 }],
    ['a stride that skips tokens', [1, 2], { windowLength: 4, stride: 5 }],
    ['no stride', [1, 2], { stride: 0 }],
    ['no windows', [1, 2], { windowCount: 0 }],
    ['a broken batch size', [1, 2], { batchSize: Number.NaN }],
  ])('refuses %s', async (_, ids, options) => {
    await expect(measurePerplexity(uniform().model, ids, options)).rejects.toThrow(OptionError);
  });

  it('throws on NaN logits', async () => {
    const { model } = createFakeModel(4, () => [Number.NaN, 0, 0, 0]);
    await expect(measurePerplexity(model, tokens)).rejects.toThrow(NumericalError);
  });

  it('throws if the perplexity overflows, and ignores saved scores of other windows', async () => {
    const { model } = createFakeModel(4, ([first = 0]) => (first === 0 ? [0, 1, 2, 3] : [0, 0, 0, 1e6]));
    await expect(measurePerplexity(model, [1, 0, 0, 0])).rejects.toThrow(NumericalError);
    const score = async (sequences: readonly Int32Array[], first: number) =>
      new Float32Array(sequences.reduce((sum, { length }) => sum + length - first, 0)).fill(1e4);
    await expect(measurePerplexity({ ...model, score }, tokens)).rejects.toThrow(
      'the mean loss is 10000 nats per token, too large for a perplexity',
    );
    const known = new Map([[0, { index: 0, nll: 1, tokenCount: 7 }]]);
    const add = async () => undefined;
    const options = { windowLength: 3 };
    expect(await measurePerplexity(uniform().model, tokens, { ...options, log: { known, add } })).toEqual(
      await measurePerplexity(uniform().model, tokens, options),
    );
  });

  it('matches the held-out losses of tiny-llama after training', async () => {
    const model = await loadTinyLlama();
    const perplexityOf = async (name: string) => {
      const text = readTinyLlamaFile(`text/${name}.txt`).slice(0, 6000);
      return measureTextPerplexity(
        model,
        { text, tokenizer: tinyLlamaTokenizer },
        { windowLength: 256, leadingTokens: [0], batchSize: 4 },
      );
    };
    const arithmetic = await perplexityOf('arithmetic');
    const drama = await perplexityOf('drama');
    expect(arithmetic.protocol.textSha256).toMatch(/^[0-9a-f]{64}$/);
    // Held-out losses: 0.99 and 3.30 nats per token; these are short unseen texts.
    expect(arithmetic.negativeLogLikelihood).toBeGreaterThan(0.9);
    expect(arithmetic.negativeLogLikelihood).toBeLessThan(1.3);
    expect(drama.negativeLogLikelihood).toBeGreaterThan(3.1);
    expect(drama.negativeLogLikelihood).toBeLessThan(3.6);
    await model.release();
  });
});

describe('cutScoredWindows', () => {
  it.each([
    [3, 3],
    [4, 1],
    [4, 3],
    [5, 2],
    [12, 5],
  ])('scores every token once: windows of %i, stride %i', (windowLength, stride) => {
    for (const leadingTokens of [[], [9], [8, 9]]) {
      const text = Int32Array.from({ length: 11 }, (_, at) => at);
      const scored = cutScoredWindows(text, { windowLength, stride, leadingTokens }).flatMap((window) => [
        ...window.tokens.subarray(window.firstScored),
      ]);
      const unscored = [...text].filter((token) => !scored.includes(token));
      expect(new Set(scored).size).toBe(scored.length);
      // Without BOS, a token that starts a window without overlap has nothing before it.
      const expected = leadingTokens.length > 0 ? [] : stride < windowLength ? [0] : [0, 3, 6, 9];
      expect(unscored).toEqual(expected);
    }
  });

  it('gives overlapping windows the context that the stride leaves', () => {
    const windows = cutScoredWindows(
      Int32Array.from({ length: 9 }, (_, at) => at),
      { windowLength: 5, stride: 2 },
    );
    expect(windows.map(({ tokens: window, firstScored }) => [window[0], window.length, firstScored])).toEqual([
      [0, 5, 1],
      [2, 5, 3],
      [4, 5, 3],
    ]);
  });
});
