import { summariseCosts } from '../../src/report/prune-report.js';

it('adds up the costs of a few steps one by one', () => {
  expect(summariseCosts(Float64Array.of(1, 2, 5))).toEqual({ removed: [0, 0.3333, 0.6667, 1], cost: [0, 1, 3, 8] });
});

it('has 25 points for many steps, with exact ends', () => {
  const { removed, cost } = summariseCosts(Float64Array.from({ length: 1000 }, (_, step) => step));
  expect(removed).toHaveLength(25);
  expect([removed[0], removed.at(-1)]).toEqual([0, 1]);
  expect([cost[0], cost.at(-1)]).toEqual([0, 499_500]);
  expect(cost[12]).toBeCloseTo((500 * 499) / 2, -3);
});

it('has a single point without steps', () => {
  expect(summariseCosts([])).toEqual({ removed: [0], cost: [0] });
});
