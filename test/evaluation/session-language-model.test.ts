import { OptionError } from '../../src/errors.js';
import type { Bundle, BundleScore } from '../../src/evaluation/bundle.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { someWindows } from '../support/tiny-llama.js';
import { loadTinyLlama, tinyLlamaTokenizer } from './tiny-llama.js';

const sentences = ['The river runs through the old town', 'for (const item of items) { count++; }'];
const sequences = sentences.map((text) => tinyLlamaTokenizer.encode(text).subarray(0, 10));

function largestDifference(actual: Float32Array, expected: Float32Array): number {
  expect(actual.length).toBe(expected.length);
  return actual.reduce((largest, value, at) => Math.max(largest, Math.abs(value - expected[at]!)), 0);
}

describe('createLanguageModel on tiny-llama', () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await loadTinyLlama();
  });
  afterAll(() => model.release());

  it('reports its vocabulary size and cache', () => {
    expect(model.vocabularySize).toBe(2048);
    expect(model.hasCache).toBe(true);
  });

  it('gives the same logits in parts as at once, alone and in a batch', async () => {
    for (const batch of [sequences.slice(0, 1), sequences]) {
      const whole = await model.createReader().read(batch);
      const reader = model.createReader();
      await reader.read(batch.map((tokens) => tokens.subarray(0, 4)));
      await reader.read(batch.map((tokens) => tokens.subarray(4, 5)));
      const stepped = await reader.read(batch.map((tokens) => tokens.subarray(5)));
      expect(largestDifference(stepped, whole)).toBeLessThan(1e-4);
    }
  });

  it('scores by its logits, from the first scored token', async () => {
    const scores = await model.score(sequences, 1);
    const [sequence] = sequences as [Int32Array, Int32Array];
    const logits = await model.createReader().read([sequence.subarray(0, 6)]);
    const expected = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[sequence[6]!]!;
    expect(scores).toHaveLength(18);
    expect(scores[5]).toBeCloseTo(expected, 4);
    const later = await model.score(sequences, 7);
    const expectedLater = [...scores.subarray(6, 9), ...scores.subarray(15, 18)];
    expect(largestDifference(later, Float32Array.from(expectedLater))).toBeLessThan(1e-5);
  });

  /** Bundles of four sequences: ten contexts of 4 to 13 tokens, continuations of 1 to 7. */
  const bundles: Bundle[] = Array.from({ length: 10 }, (_, item) => {
    const context = someWindows(10, 4 + item)[item]!;
    return [1, 7, 3, 2].map((length, at) => {
      const continuation = someWindows(4, length)[at]!.map((token) => (token + 7 * item) % 2048);
      return { tokens: Int32Array.of(...context, ...continuation), firstScored: context.length };
    });
  });

  const scoreAll = async (isKnown?: (index: number) => boolean) => {
    const found: BundleScore[] = [];
    for await (const batch of model.scoreBundles(bundles, isKnown)) found.push(...batch);
    return found.sort((a, b) => a.index - b.index);
  };

  it('scores bundles as it scores each sequence alone', async () => {
    const scores = await scoreAll();
    expect(scores.map(({ index }) => index)).toEqual([...bundles.keys()]);
    for (const { index, sequences } of scores) {
      for (const [at, { nll }] of sequences.entries()) {
        const { tokens, firstScored } = bundles[index]![at]!;
        expect(largestDifference(nll, await model.score([tokens], firstScored))).toBeLessThan(1e-4);
      }
    }
  });

  it('reports whether greedy decoding generates a sequence', async () => {
    const context = tinyLlamaTokenizer.encode('4 + 5 = 9\n8 + 5 = 13\n2 + 2 =');
    const reader = model.createReader();
    const written: number[] = [];
    for (let logits = await reader.read([context]); written.length < 3; ) {
      written.push(logits.indexOf(Math.max(...logits)));
      logits = await reader.read([Int32Array.of(written.at(-1)!)]);
    }
    const others = [written.slice(0, 1), [...written.slice(0, 2), written[2]! ^ 1]];
    const bundle = [written, ...others].map((end) => ({
      tokens: Int32Array.of(...context, ...end),
      firstScored: context.length,
    }));
    for await (const [score] of model.scoreBundles([bundle])) {
      expect(score!.sequences.map(({ isGreedy }) => isGreedy)).toEqual([true, true, false]);
    }
  });

  it('gives the same scores if some are known already', async () => {
    const whole = await scoreAll();
    const rest = await scoreAll((index) => index < 6);
    expect(rest.length).toBeLessThan(10);
    expect(rest).toEqual(whole.filter(({ index }) => rest.some((score) => score.index === index)));
    expect(await scoreAll(() => true)).toEqual([]);
  });

  it.each([0, 2])('refuses a sequence of two tokens whose first scored is %i', async (firstScored) => {
    const bundle = [{ tokens: Int32Array.of(1, 2), firstScored }];
    await expect(model.scoreBundles([bundle]).next()).rejects.toThrow(OptionError);
  });

  it('keeps the caches of readers separate', async () => {
    const one = model.createReader();
    const other = model.createReader();
    await one.read([sequences[0]!]);
    await other.read([sequences[1]!]);
    const expected = await model.createReader().read([Int32Array.of(...sequences[0]!, 5)]);
    expect(largestDifference(await one.read([Int32Array.of(5)]), expected)).toBeLessThan(1e-4);
  });

  it.each([
    ['sequences of unequal length', [Int32Array.of(1, 2), Int32Array.of(1, 2, 3)], 1],
    ['a single token', [Int32Array.of(1)], 1],
    ['nothing', [], 1],
    ['a first token without context', [Int32Array.of(1, 2)], 0],
    ['nothing to score', [Int32Array.of(1, 2)], 2],
  ])('refuses to score %s', async (_, batch, firstScored) => {
    await expect(model.score(batch, firstScored)).rejects.toThrow(OptionError);
  });
});
