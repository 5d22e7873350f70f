import type { Tokenizer } from '../../src/calibration/tokenizer.js';
import { NumericalError } from '../../src/errors.js';
import { measureTask, type TaskOptions } from '../../src/evaluation/measure-task.js';
import { readTaskItems, type TaskItem } from '../../src/evaluation/task-items.js';
import type { ItemScore } from '../../src/evaluation/task-result.js';
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

const CHOICES = [
  '{"query":"ab","choices":["x","c"],"gold":1}',
  '{"query":"ab","choices":["cd","y"],"gold":0}',
  '{"contexts":["a","l"],"continuation":"m","gold":0}',
];

async function readItems(lines: Iterable<string>): Promise<TaskItem[]> {
  const items: TaskItem[] = [];
  for await (const item of readTaskItems(lines)) items.push(item);
  return items;
}

/** The result, and the scores that it summarises. */
async function measure(lines: readonly string[], options: Partial<TaskOptions> = {}, model = alphabet()) {
  const scores: ItemScore[] = [];
  const log = {
    known: new Map<number, ItemScore>(),
    add: async (fresh: readonly ItemScore[]) => void scores.push(...fresh),
  };
  const items = await readItems(lines);
  const result = await measureTask(model, items, { tokenizer: letters, delimiter: '', log, ...options });
  return { result, scores };
}

const likely = 2 - Math.log(Math.exp(2) + 26);
const unlikely = -Math.log(Math.exp(2) + 26);

describe('measureTask', () => {
  it('measures the log-likelihood of every candidate', async () => {
    const { result, scores } = await measure(CHOICES);
    const [first, second, third] = scores;
    expect(first!.logLikelihoods[0]).toBeCloseTo(unlikely, 5);
    expect(first!.logLikelihoods[1]).toBeCloseTo(likely, 5);
    expect(second!.logLikelihoods[0]).toBeCloseTo(2 * likely, 5);
    expect(second).toMatchObject({ index: 1, gold: 0, characterCounts: [2, 1], tokenCounts: [2, 1] });
    expect(third!.logLikelihoods[1]).toBeCloseTo(likely, 5);
    expect(result).toMatchObject({ kind: 'multiple-choice', itemCount: 3, acc: 2 / 3, accNorm: 2 / 3 });
  });

  it('measures last words', async () => {
    const { result } = await measure(['{"context":"ab","target":"cd"}', '{"context":"ab","target":"ce"}']);
    expect(result).toMatchObject({ kind: 'last-word', itemCount: 2, acc: 0.5 });
    expect(result.perplexity).toBeCloseTo(Math.exp(-(3 * likely + unlikely) / 2), 5);
  });

  it('puts a space between context and choice, and before a last word that has none', async () => {
    const { scores } = await measure([CHOICES[0]!], { delimiter: ' ' });
    expect(scores[0]).toMatchObject({ tokenCounts: [2, 2], characterCounts: [1, 1] });
    const words = ['{"context":"a","target":"b"}', '{"context":"a","target":" b"}', '{"context":"a ","target":"b"}'];
    const spaced = await measure(words, { delimiter: ' ' });
    expect(spaced.scores.map(({ tokenCounts }) => tokenCounts)).toEqual([[2], [2], [2]]);
  });

  it('resumes where an earlier run stopped', async () => {
    const whole = await measure(CHOICES);
    const added: ItemScore[] = [];
    const log = {
      known: new Map(whole.scores.slice(0, 2).map((score) => [score.index, score])),
      add: async (fresh: readonly ItemScore[]) => void added.push(...fresh),
    };
    const { result } = await measure(CHOICES, { log });
    expect(result).toEqual(whole.result);
    expect(added).toEqual(whole.scores.slice(2));
  });

  it('measures an item again whose saved score is of another answer or number of choices', async () => {
    const whole = await measure(CHOICES);
    const [first, second, third] = whole.scores as [ItemScore, ItemScore, ItemScore];
    const others = [{ ...first, gold: 0 }, { ...second, logLikelihoods: [-1] }, third];
    const added: ItemScore[] = [];
    const log = {
      known: new Map(others.map((score) => [score.index, score])),
      add: async (fresh: readonly ItemScore[]) => void added.push(...fresh),
    };
    expect((await measure(CHOICES, { log })).result).toEqual(whole.result);
    expect(added).toEqual([first, second]);
  });

  it('cuts contexts from the left to contextLength', async () => {
    const whole = await measure(CHOICES.slice(0, 1));
    expect(await measure(CHOICES.slice(0, 1), { contextLength: 1 })).toEqual(whole);
    await expect(measure(['{"query":"a","choices":["bcd","x"],"gold":0}'], { contextLength: 2 })).rejects.toThrow(
      /line 1: a continuation has 3 tokens/,
    );
    for (const contextLength of [1.5, 0])
      await expect(measure(CHOICES, { contextLength })).rejects.toThrow(`contextLength is ${contextLength}, expected`);
  });

  it('reports its progress', async () => {
    const seen: string[] = [];
    await measure(CHOICES, { onProgress: ({ stage, done, total }) => seen.push(`${stage} ${done}/${total}`) });
    expect(seen).toEqual([0, 1, 2, 3].map((done) => `multiple-choice ${done}/3`));
  });

  it('saves finished items before it stops, and throws on NaN', async () => {
    await expect(measure(CHOICES, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    const control = new AbortController();
    const saved: ItemScore[] = [];
    const log = {
      known: new Map(),
      add: async (fresh: readonly ItemScore[]) => {
        saved.push(...fresh);
        control.abort();
      },
    };
    await expect(measure(CHOICES, { log, signal: control.signal })).rejects.toThrow(/abort/i);
    expect(saved).toHaveLength(1);
    const { model } = createFakeModel(27, () => Array(27).fill(Number.NaN));
    await expect(measure(CHOICES, {}, model)).rejects.toThrow(NumericalError);
  });

  it('measures an accuracy above 0.7 of tiny-llama in arithmetic', async () => {
    const model = await loadTinyLlama();
    const lines = readTinyLlamaFile('tasks/arithmetic.jsonl').split('\n').slice(0, 30);
    const { result } = await measure(lines, { tokenizer: tinyLlamaTokenizer, delimiter: ' ' }, model);
    // 170 of all 200 items are right.
    expect(result.acc).toBeGreaterThan(0.7);
    await model.release();
  });
});
