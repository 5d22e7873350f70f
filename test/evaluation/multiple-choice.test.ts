import type { Tokenizer } from '../../src/calibration/tokenizer.js';
import { NumericalError, OptionError } from '../../src/errors.js';
import {
  type MultipleChoiceOptions,
  type MultipleChoiceScore,
  scoreMultipleChoice,
  summarizeMultipleChoice,
} from '../../src/evaluation/multiple-choice.js';
import { readMultipleChoiceItems } from '../../src/evaluation/multiple-choice-items.js';
import { createFakeModel } from './fake-model.js';
import { loadTinyLlama, readTinyLlamaFile, tinyLlamaTokenizer } from './tiny-llama.js';

/** Tokens are letters: a = 1 ... z = 26, anything else 0. */
const letters: Tokenizer = {
  vocabularySize: 27,
  bosTokenId: 0,
  eosTokenId: undefined,
  encode: (text) => Int32Array.from(text, (letter) => (/[a-z]/.test(letter) ? letter.charCodeAt(0) - 96 : 0)),
  decode: () => '',
};

/** After letter t, letter t + 1 has logit 2, all others 0. */
const alphabet = () =>
  createFakeModel(27, (seen) => Array.from({ length: 27 }, (_, token) => (token === seen.at(-1)! + 1 ? 2 : 0))).model;

const LINES = [
  '{"query":"ab","choices":["x","c"],"gold":1}',
  '{"query":"ab","choices":["cd","y"],"gold":0}',
  '{"contexts":["a","l"],"continuation":"m","gold":0}',
];

async function scoreAll(lines: readonly string[], options: Partial<MultipleChoiceOptions> = {}, model = alphabet()) {
  const scores: MultipleChoiceScore[] = [];
  const items = readMultipleChoiceItems(lines);
  for await (const score of scoreMultipleChoice(model, items, { tokenizer: letters, delimiter: '', ...options }))
    scores.push(score);
  return scores;
}

describe('scoreMultipleChoice', () => {
  it('gives the log-likelihood of every candidate', async () => {
    const [first, second, third] = await scoreAll(LINES);
    const likely = 2 - Math.log(Math.exp(2) + 26);
    const unlikely = -Math.log(Math.exp(2) + 26);
    expect(first!.logLikelihoods[0]).toBeCloseTo(unlikely, 5);
    expect(first!.logLikelihoods[1]).toBeCloseTo(likely, 5);
    expect(second!.logLikelihoods[0]).toBeCloseTo(2 * likely, 5);
    expect(second).toMatchObject({ index: 1, gold: 0, characterCounts: [2, 1], tokenCounts: [2, 1] });
    expect(third!.logLikelihoods[1]).toBeCloseTo(likely, 5);
  });

  it('puts a space between context and continuation unless told otherwise', async () => {
    const [spaced] = await scoreAll(LINES, { delimiter: ' ' });
    expect(spaced).toMatchObject({ tokenCounts: [2, 2], characterCounts: [1, 1] });
  });

  it('counts characters, not UTF-16 units', async () => {
    const [score] = await scoreAll(['{"query":"a","choices":["😀","bb"],"gold":0}']);
    expect(score!.characterCounts).toEqual([1, 2]);
  });

  it('resumes where an earlier run stopped', async () => {
    const [early, late] = [await scoreAll(LINES, { limit: 1 }), await scoreAll(LINES, { start: 1 })];
    expect([...early, ...late]).toEqual(await scoreAll(LINES));
  });

  it('cuts contexts from the left to what the model reads', async () => {
    const [whole] = await scoreAll(LINES, { limit: 1 });
    expect(await scoreAll(LINES, { limit: 1, contextLength: 1 })).toEqual([whole]);
    await expect(scoreAll(['{"query":"a","choices":["bcd","x"],"gold":0}'], { contextLength: 2 })).rejects.toThrow(
      /line 1: a continuation has 3 tokens/,
    );
  });

  it.each([{ start: -1 }, { limit: 0 }, { contextLength: 1.5 }])('refuses %j', async (options) => {
    await expect(scoreAll(LINES, options)).rejects.toThrow(OptionError);
  });

  it('stops on request and on what is not a number', async () => {
    await expect(scoreAll(LINES, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    const { model } = createFakeModel(27, () => Array(27).fill(Number.NaN));
    await expect(scoreAll(LINES, {}, model)).rejects.toThrow(NumericalError);
  });

  it('finds that tiny-llama can add up', async () => {
    const model = await loadTinyLlama();
    const lines = readTinyLlamaFile('tasks/arithmetic.jsonl').split('\n');
    const scores = await scoreAll(lines, { tokenizer: tinyLlamaTokenizer, delimiter: ' ', limit: 30 }, model);
    // 170 of all 200 items are right.
    expect(summarizeMultipleChoice(scores).acc).toBeGreaterThan(0.7);
    await model.release();
  });
});

describe('summarizeMultipleChoice', () => {
  const score = (logLikelihoods: number[], characterCounts: number[], gold: number): MultipleChoiceScore => ({
    index: 0,
    gold,
    logLikelihoods,
    characterCounts,
    tokenCounts: characterCounts,
  });

  it('judges by likelihood, and by likelihood per character', () => {
    const scores = [
      score([-4, -3], [8, 2], 0),
      score([-1, -2], [1, 1], 0),
      score([-5, -1], [1, 1], 0),
      score([-2, -2], [1, 1], 0),
    ];
    const result = summarizeMultipleChoice(scores);
    expect(result).toMatchObject({ itemCount: 4, acc: 0.5, accNorm: 0.75, goldNll: 3 });
    // Sample standard deviation of 0, 1, 0, 1 over the root of 4.
    expect(result.accStderr).toBeCloseTo(Math.sqrt(1 / 3) / 2, 12);
  });

  it('has nothing to say about nothing', () => {
    expect(() => summarizeMultipleChoice([])).toThrow(OptionError);
  });
});
