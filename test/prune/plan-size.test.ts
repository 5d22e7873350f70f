import { largestBytes, type Mixture, sumOfRounding } from '../../src/prune/mixtures.js';
import { estimateRoundingCosts, planSize } from '../../src/prune/plan-size.js';
import { gridOf, sizeProblem } from '../support/size-problem.js';

const problem = sizeProblem(7);
const bytesOf = async (mixture: Pick<Mixture, 'grids' | 'steps'>) => (mixture as Mixture).bytes;
const costOf = ({ estimate }: Mixture) => estimate.pruning + sumOfRounding(estimate);

it('plans different mixtures of a size, the one of the lowest estimate first', async () => {
  const target = 0.5 * largestBytes(problem);
  const planned = await planSize({ problem, bits: [8, 4, 2], bytesOf }, target);
  expect(planned.length).toBeGreaterThan(2);
  const costs = planned.map(({ mixture }) => costOf(mixture));
  expect(costs).toEqual([...costs].sort((a, b) => a - b));
  expect(new Set(costs).size).toBe(costs.length);
  for (const { bytes } of planned) expect(bytes).toBeLessThanOrEqual(target);
  expect(await planSize({ problem, bits: [8, 4, 2], bytesOf }, 1)).toEqual([]);
});

it('estimates that all tables together cost half as much as all linear layers in as many bits', () => {
  const weightOf = (name: string, isTable: boolean) => ({
    name,
    isTable,
    forms: ([8, 4] as const).map((bits) => ({ grid: gridOf(bits), bytes: 10 * bits, cost: 0 })),
  });
  const weights = [weightOf('layer', false), weightOf('embedding', true), weightOf('head', true)];
  const costs = new Map([['layer', new Map([[8, 0.01] as const, [4, 0.4] as const])]]);
  const found = estimateRoundingCosts({ ...problem, weights }, costs).weights;
  const byName = Object.fromEntries(found.map(({ name, forms }) => [name, forms.map(({ cost }) => cost)]));
  expect(byName).toEqual({ layer: [0.01, 0.4], embedding: [0, 0.1], head: [0, 0.1] });
});
