import { OptionError } from '../../src/errors.js';
import { compareResults } from '../../src/evaluation/compare-results.js';
import { explainComparison } from '../../src/evaluation/explain-comparison.js';
import { type ItemScore, summarizeTask, type TaskResult } from '../../src/evaluation/task-result.js';
import { createRandom } from '../../src/linalg/random.js';

/** A result with two choices per item: which items are `right`, and the `nll` of the right answer. */
function resultOf(right: readonly boolean[], nll: (index: number) => number = () => 2, start = 0): TaskResult {
  const scores = right.map((isRight, at): ItemScore => {
    const gold = -nll(at);
    return {
      index: start + at,
      gold: 0,
      logLikelihoods: [gold, isRight ? gold - 1 : gold + 1],
      isGreedy: [isRight, !isRight],
      characterCounts: [5, 5],
      tokenCounts: [1, 1],
    };
  });
  return summarizeTask('multiple-choice', scores);
}

/** `onlyA` items right for A alone, then `onlyB` for B alone, the others for both. */
function discordant(onlyA: number, onlyB: number, count: number) {
  const flags = (wrong: (at: number) => boolean) => Array.from({ length: count }, (_, at) => !wrong(at));
  return [resultOf(flags((at) => at >= onlyA && at < onlyA + onlyB)), resultOf(flags((at) => at < onlyA))] as const;
}

describe('compareResults', () => {
  it('gives the verdict "same" for two evaluations of one model', () => {
    const [a] = discordant(7, 9, 100);
    const comparison = compareResults(a, a);
    expect(comparison).toMatchObject({ itemCount: 100, verdict: 'same', deciding: [] });
    expect(comparison.acc).toMatchObject({ difference: 0, interval: [0, 0], pValue: 1, onlyA: 0, onlyB: 0 });
    expect(comparison.goldNll).toMatchObject({ difference: 0, pValue: 1 });
  });

  it('takes a difference of two points on 500 items for noise', () => {
    const comparison = compareResults(...discordant(35, 25, 500));
    expect(comparison.accNorm!.difference).toBeCloseTo(-0.02, 12);
    expect(comparison.verdict).toBe('same');
    expect(explainComparison(comparison)).toMatch(
      /^No difference beyond noise on 500 items: acc_norm changes by -\d\.\d to \d\.\d points \(95 % interval\)\.$/,
    );
  });

  it('detects a difference of six points on 500 items', () => {
    const comparison = compareResults(...discordant(40, 10, 500));
    expect(comparison).toMatchObject({ verdict: 'worse', deciding: ['accNorm', 'acc'] });
    expect(comparison.accNorm).toMatchObject({ a: 0.98, b: 0.92, onlyA: 40, onlyB: 10 });
    const [low, high] = comparison.accNorm!.interval;
    expect(low).toBeGreaterThan(-0.095);
    expect(low).toBeLessThan(-0.075);
    expect(high).toBeGreaterThan(-0.045);
    expect(high).toBeLessThan(-0.025);
    expect(explainComparison(comparison)).toMatch(
      /^B is worse by 6\.0 points of acc_norm \(95 % interval [34]\.\d to [78]\.\d\)\.$/,
    );
    expect(compareResults(...discordant(10, 40, 500)).verdict).toBe('better');
  });

  it('detects in likelihoods what accuracy does not show', () => {
    const random = createRandom(1);
    const costs = Array.from({ length: 200 }, () => 2 + random());
    const right = costs.map(() => true);
    const a = resultOf(right, (at) => costs[at]!);
    const comparison = compareResults(
      a,
      resultOf(right, (at) => costs[at]! * 1.1 + 0.1 * Math.sin(at)),
    );
    expect(comparison).toMatchObject({ verdict: 'worse', deciding: ['goldNll'] });
    expect(explainComparison(comparison)).toMatch(
      /^B is worse by 0\.2\d\d nats in the likelihood of the right answer .*; acc_norm alone shows no difference/,
    );
  });

  it('needs a smaller p for the first of several measures', () => {
    const comparison = compareResults(...discordant(20, 8, 500));
    expect(comparison.acc.pValue).toBeLessThan(0.05);
    expect(comparison.acc.pValue).toBeGreaterThan(0.05 / 3);
    expect(comparison).toMatchObject({ verdict: 'same', deciding: [] });
  });

  it('does not take rounding for a difference', () => {
    const right = Array.from({ length: 100 }, () => true);
    const comparison = compareResults(
      resultOf(right),
      resultOf(right, () => 2.0001),
    );
    expect(comparison.goldNll.pValue).toBeLessThan(0.01);
    expect(comparison.verdict).toBe('same');
  });

  it('gives the same result for a seed, and wider intervals for more confidence', () => {
    const results = discordant(40, 30, 300);
    expect(compareResults(...results, { seed: 3 })).toEqual(compareResults(...results, { seed: 3 }));
    const narrow = compareResults(...results, { confidence: 0.5 }).acc.interval;
    const wide = compareResults(...results, { confidence: 0.99 }).acc.interval;
    expect(wide[0]).toBeLessThan(narrow[0]);
    expect(wide[1]).toBeGreaterThan(narrow[1]);
  });

  it('pairs the items that both have', () => {
    const a = resultOf([true, true, false]);
    expect(
      compareResults(
        a,
        resultOf([false, true], () => 2, 1),
      ).itemCount,
    ).toBe(2);
    expect(() =>
      compareResults(
        a,
        resultOf([true], () => 2, 9),
      ),
    ).toThrow(/no item in common/);
  });

  it('refuses different tasks and options out of range', () => {
    const a = resultOf([true, false]);
    const other = { ...a, answers: a.answers.map((answer) => ({ ...answer, gold: 1 })) } as TaskResult;
    expect(() => compareResults(a, other)).toThrow(/item 0 has gold 0 in A and 1 in B/);
    const words = summarizeTask('last-word', [
      { index: 0, gold: 0, logLikelihoods: [-1], isGreedy: [true], characterCounts: [1], tokenCounts: [1] },
    ]);
    expect(() => compareResults(a, words)).toThrow(OptionError);
    expect(compareResults(words, words).accNorm).toBeUndefined();
    expect(() => compareResults(a, a, { confidence: 1 })).toThrow(OptionError);
    expect(() => compareResults(a, a, { resampleCount: 10 })).toThrow(OptionError);
  });
});
