import { routeEverywhere, weighTokens } from '../../src/prune/measure-dense/all-experts.js';

const ROUTES = [
  { experts: [0, 1], routingWeights: [0.6, 0.4] },
  { experts: [0, 2], routingWeights: [0.8, 0.2] },
  { experts: [1, 0], routingWeights: [0.5, 0.5] },
];

const squaresOf = (expert: number) =>
  ROUTES.map(({ experts, routingWeights }) => (routingWeights[experts.indexOf(expert)] ?? 0) ** 2).reduce(
    (sum, own) => sum + own,
    0,
  );

it('weights few tokens of other experts as one mean token of the expert together', () => {
  const { others } = weighTokens(ROUTES, 4);
  expect(others[0]).toBe(0);
  expect(others[1]! ** 2).toBeCloseTo(squaresOf(1) / 2, 12);
  expect(others[2]! ** 2).toBeCloseTo(0.2 ** 2, 12);
  const mean = (squaresOf(0) + squaresOf(1) + squaresOf(2)) / 6;
  expect(others[3]! ** 2).toBeCloseTo(mean, 12);
});

it('routes every token to every expert, and keeps the sums of squared weights', () => {
  const routes = routeEverywhere(ROUTES, 4);
  expect(routes.map(({ experts }) => experts)).toEqual(ROUTES.map(() => [0, 1, 2, 3]));
  const weightOf = (expert: number) =>
    routes.reduce((sum, { routingWeights }) => sum + routingWeights[expert]! ** 2, 0);
  for (const expert of [0, 1, 2]) expect(weightOf(expert)).toBeCloseTo(squaresOf(expert), 12);
  expect(routes.map(({ routingWeights }) => routingWeights[0])).toEqual([0.6, 0.8, 0.5]);
  // Weights keep their proportions.
  expect(routes[0]!.routingWeights[1]! / routes[2]!.routingWeights[1]!).toBeCloseTo(0.4 / 0.5, 12);
  // As one token for an expert without tokens.
  expect(weightOf(3)).toBeCloseTo((squaresOf(0) + squaresOf(1) + squaresOf(2)) / 6, 12);
});

it('weights many tokens of other experts as 32 together', () => {
  const routes = Array.from({ length: 100 }, (_, token) => ({
    experts: [token < 40 ? 0 : 1],
    routingWeights: [token < 40 ? 0.5 : 1],
  }));
  const weights = weighTokens(routes, 2);
  expect(weights.others[0]! ** 2 * 60).toBeCloseTo(32 * 0.25, 12);
  expect(weights.scales[0]! ** 2).toBeCloseTo(40 / 72, 12);
  expect(weights.others[1]! ** 2 * 40).toBeCloseTo(32, 12);
});
