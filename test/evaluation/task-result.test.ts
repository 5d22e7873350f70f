import { OptionError } from '../../src/errors.js';
import { type ItemScore, summarizeTask } from '../../src/evaluation/task-result.js';

const score = (logLikelihoods: number[], characterCounts: number[], gold: number): ItemScore => ({
  index: 0,
  gold,
  logLikelihoods,
  isGreedy: logLikelihoods.map((value) => value > -1.5),
  characterCounts,
  tokenCounts: characterCounts,
});

describe('summarizeTask', () => {
  it('scores choices by likelihood, and by likelihood per character', () => {
    const scores = [
      score([-4, -3], [8, 2], 0),
      score([-1, -2], [1, 1], 0),
      score([-5, -1], [1, 1], 0),
      score([-2, -2], [1, 1], 0),
    ];
    const result = summarizeTask('multiple-choice', scores);
    expect(result).toMatchObject({ itemCount: 4, acc: 0.5, accNorm: 0.75, goldNll: 3 });
    // Sample standard deviation of 0, 1, 0, 1 over the root of 4.
    expect(result.accStderr).toBeCloseTo(Math.sqrt(1 / 3) / 2, 12);
    expect(result.answers[0]).toMatchObject({ choice: 1, choiceNorm: 0, isRight: false, goldNll: 4 });
  });

  it('scores last words by greedy decoding', () => {
    const result = summarizeTask('last-word', [score([-1], [3], 0), score([-2], [3], 0)]);
    expect(result).toMatchObject({ itemCount: 2, acc: 0.5, goldNll: 1.5, perplexity: Math.exp(1.5) });
    expect(result.accNorm).toBeUndefined();
  });

  it('refuses an empty list of scores', () => {
    expect(() => summarizeTask('multiple-choice', [])).toThrow(OptionError);
  });
});
