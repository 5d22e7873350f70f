import { OptionError } from '../../src/errors.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
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

  it('knows its vocabulary and cache', () => {
    expect(model.vocabularySize).toBe(2048);
    expect(model.hasCache).toBe(true);
  });

  it('reads on with its cache to what it reads at once, alone and in a batch', async () => {
    for (const batch of [sequences.slice(0, 1), sequences]) {
      const whole = await model.createReader().read(batch);
      const reader = model.createReader();
      await reader.read(batch.map((tokens) => tokens.subarray(0, 4)));
      await reader.read(batch.map((tokens) => tokens.subarray(4, 5)));
      const stepped = await reader.read(batch.map((tokens) => tokens.subarray(5)));
      expect(largestDifference(stepped, whole)).toBeLessThan(1e-4);
    }
  });

  it('scores what its logits say, from the first scored token on', async () => {
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

  it('scores continuations of one context as it scores each text alone', async () => {
    const [sequence] = sequences as [Int32Array, Int32Array];
    const context = sequence.subarray(0, 5);
    const continuations = [sequence.subarray(5), Int32Array.of(40), Int32Array.of(7, 8, 9)];
    const together = await model.scoreContinuations(context, continuations);
    for (const [index, continuation] of continuations.entries()) {
      const alone = await model.score([Int32Array.of(...context, ...continuation)], context.length);
      expect(largestDifference(together[index]!, alone)).toBeLessThan(1e-4);
    }
    await expect(model.scoreContinuations(context, [new Int32Array(0)])).rejects.toThrow(OptionError);
    await expect(model.scoreContinuations(new Int32Array(0), [context])).rejects.toThrow(OptionError);
  });

  it('keeps readers apart', async () => {
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
