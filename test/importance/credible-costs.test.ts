import { credibleCosts, FULL_CREDIBILITY } from '../../src/importance/credible-costs.js';
import { EXPERT_SCORES, type ExpertStatistics } from '../../src/importance/expert-scores.js';

const given = (tokens: readonly number[], costs: readonly number[]): ExpertStatistics => {
  const sums = new Float64Array(tokens.length);
  return {
    gatedNorms: sums,
    norms: sums,
    squares: sums,
    tokens: Float64Array.from(tokens),
    costs: Float64Array.from(costs),
  };
};

it('returns measured costs of experts with enough tokens bit for bit', () => {
  const costs = [1 / 3, 7e-9, 0, -1e-3];
  expect([...credibleCosts(given([32, 40, 1000, 33], costs))]).toEqual(costs);
  expect(credibleCosts(given([32, 40, 1000, 3], costs)).slice(0, 3)).toEqual(Float64Array.from(costs.slice(0, 3)));
});

it('moves the cost per token of an expert with few tokens towards that of the others', () => {
  // The others: 10 for 100 tokens.
  const of = (tokens: number, cost: number) => credibleCosts(given([tokens, 60, 40], [cost, 4, 6]))[0]!;
  expect(of(0, 0)).toBeCloseTo(0.1, 12);
  expect(of(8, 0)).toBeCloseTo(9 * 0.5 * 0.1, 12);
  expect(of(8, 16)).toBeCloseTo(9 * (0.5 * 2 + 0.5 * 0.1), 12);
  expect(of(FULL_CREDIBILITY, 0)).toBe(0);
});

it('returns zeros if no expert got a token', () => {
  expect([...credibleCosts(given([0, 0], [0, 0]))]).toEqual([0, 0]);
});

it('affects only the score "removal"; frequency and REAP are as published', () => {
  const statistics = given([0, 60, 40], [0, 4, 6]);
  expect([...EXPERT_SCORES.removal.score(statistics)]).toEqual([0.1, 4, 6]);
  expect([...EXPERT_SCORES.frequency.score(statistics)]).toEqual([0, 60, 40]);
  expect(EXPERT_SCORES.reap.score(statistics)[0]).toBe(0);
});
