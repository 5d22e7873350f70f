import { NumericalError, OptionError } from '../../src/errors.js';
import { createDivergenceScorer } from '../../src/evaluation/divergence-scorer.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { type DivergenceScore, measureDivergence } from '../../src/evaluation/measure-divergence.js';
import { createRandom } from '../../src/linalg/random.js';
import type { Engine } from '../../src/runtime/engine.js';
import { testEngine } from '../support/engine.js';
import { someWindows } from '../support/tiny-llama.js';
import { createFakeModel } from './fake-model.js';
import { loadTinyLlama } from './tiny-llama.js';

/** A model of two tokens that predicts the second with probability `p`. */
const coin = (p: number) => createFakeModel(2, () => [Math.log(1 - p), Math.log(p)]).model;

const compare = (reference: LanguageModel, model: LanguageModel, options = {}) =>
  measureDivergence({ reference, model, engine: testEngine }, Int32Array.of(0, 1, 1, 0, 1, 0, 0), options);

describe('measureDivergence', () => {
  it('is the mean of p ln(p/q), and reports the agreement of the likeliest tokens', async () => {
    const result = await compare(coin(0.8), coin(0.6), { windowLength: 3 });
    expect(result.klDivergence).toBeCloseTo(0.8 * Math.log(0.8 / 0.6) + 0.2 * Math.log(0.2 / 0.4), 6);
    expect(result.top1Agreement).toBe(1);
    // Seven tokens are windows of 3 and 3; from a single token nothing is left to predict.
    expect(result.protocol).toMatchObject({ windowLength: 3, stride: 3, windowCount: 2, tokenCount: 6 });
    expect((await compare(coin(0.8), coin(0.3))).top1Agreement).toBe(0);
  });

  it('accepts logits of minus infinity', async () => {
    const { klDivergence } = await compare(coin(1), coin(1));
    expect(klDivergence).toBe(0);
  });

  it('resumes where an earlier run stopped', async () => {
    const saved: DivergenceScore[] = [];
    const log = { known: new Map(), add: async (added: readonly DivergenceScore[]) => void saved.push(...added) };
    const whole = await compare(coin(0.8), coin(0.6), { windowLength: 3, log });
    const known = new Map([[0, saved[0]!]]);
    saved.length = 0;
    expect(await compare(coin(0.8), coin(0.6), { windowLength: 3, log: { ...log, known } })).toEqual(whole);
    expect(saved.map(({ index }) => index)).toEqual([1]);
  });

  it('counts no saved scores of windows beyond the requested ones', async () => {
    const known = new Map([5, 6].map((index) => [index, { index, divergence: 9, agreementCount: 0, tokenCount: 3 }]));
    const done: string[] = [];
    const options = {
      windowLength: 3,
      log: { known, add: async () => undefined },
      onProgress: (step: { done: number; total: number }) => done.push(`${step.done}/${step.total}`),
    };
    const { klDivergence } = await compare(coin(0.8), coin(0.6), options);
    expect(klDivergence).toBe((await compare(coin(0.8), coin(0.6), { windowLength: 3 })).klDivergence);
    expect(done).toEqual(['0/2', '1/2', '2/2']);
  });

  it('releases its session, also after an error', async () => {
    let open = 0;
    const engine: Engine = {
      ...testEngine,
      async load(...given) {
        const session = await testEngine.load(...given);
        open += 1;
        const release = async () => {
          open -= 1;
          await session.release();
        };
        return { ...session, run: session.run.bind(session), release };
      },
    };
    const tokens = Int32Array.of(0, 1, 1, 0);
    await measureDivergence({ reference: coin(0.5), model: coin(0.6), engine }, tokens);
    const broken = { reference: coin(0.5), model: coin(Number.NaN), engine };
    await expect(measureDivergence(broken, tokens)).rejects.toThrow(NumericalError);
    expect(open).toBe(0);
  });

  it('refuses other vocabularies, short texts and NaN', async () => {
    await expect(compare(createFakeModel(3, () => [0, 0, 0]).model, coin(0.5))).rejects.toThrow(
      /2 .* and the reference 3/,
    );
    await expect(compare(coin(0.5), coin(0.5), { windowLength: 8 })).rejects.toThrow(OptionError);
    await expect(compare(coin(0.5), coin(Number.NaN))).rejects.toThrow(NumericalError);
  });

  it('is 0 between a model and itself', async () => {
    const model = await loadTinyLlama();
    const result = await measureDivergence({ reference: model, model, engine: testEngine }, someWindows(1, 96)[0]!, {
      windowLength: 48,
    });
    expect(result).toMatchObject({ klDivergence: 0, top1Agreement: 1 });
    await model.release();
  });
});

describe('createDivergenceScorer', () => {
  it('sums a large vocabulary within 1 % of double precision', async () => {
    const [rowCount, width] = [90, 50_000];
    const random = createRandom(3);
    const reference = Float32Array.from({ length: rowCount * width }, () => 12 * random());
    const model = reference.map((logit) => logit + 0.2 * random());
    const scorer = await createDivergenceScorer(testEngine, { reference: 'float32', model: 'float32' });
    const dims = [rowCount, width];
    const { divergence } = await scorer.score(
      { type: 'float32', dims, data: reference },
      { type: 'float32', dims, data: model },
    );
    // 83 rows are compared at once: the last ones take a second run.
    for (const row of [0, 82, 83, 89]) {
      const [p, q] = [reference, model].map((logits) => logits.subarray(row * width, (row + 1) * width));
      const [logP, logQ] = [p!, q!].map((logits) => Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)));
      const expected = p!.reduce(
        (sum, logit, at) => sum + Math.exp(logit - logP!) * (logit - logP! - q![at]! + logQ!),
        0,
      );
      expect(Math.abs(divergence[row]! - expected)).toBeLessThan(0.01 * expected);
    }
    await scorer.release();
  });
});
