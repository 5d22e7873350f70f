import { distributeCost } from '../../src/prune/cost-model.js';

describe('distributeCost', () => {
  const estimates = new Map([
    ['cheap', 0.001],
    ['middle', 0.01],
    ['costly', 0.1],
  ]);

  it('distributes all of the cost', () => {
    const sum = [...distributeCost(0.5, estimates).values()].reduce((a, b) => a + b, 0);
    expect(sum).toBeCloseTo(0.5, 12);
  });

  it('gives cheap layers more than their proportion, in the same order', () => {
    const costs = distributeCost(0.111, estimates);
    expect(costs.get('cheap')).toBeGreaterThan(0.001 * 1.3);
    expect(costs.get('costly')).toBeLessThan(0.1);
    expect(costs.get('costly')! / costs.get('middle')!).toBeCloseTo(10 ** 0.87, 10);
    expect(costs.get('middle')! / costs.get('cheap')!).toBeCloseTo(10 ** 0.87, 10);
  });

  it.each([
    { of: 'a measured cost below zero', total: -0.01, layers: estimates },
    {
      of: 'estimates that are zero or below',
      total: 0.2,
      layers: new Map([
        ['a', 0],
        ['b', -1],
      ]),
    },
  ])('distributes nothing of $of', ({ total, layers }) => {
    expect([...distributeCost(total, layers).values()].every((cost) => cost === 0)).toBe(true);
  });

  it('has no layers without estimates', () => {
    expect(distributeCost(0.2, new Map()).size).toBe(0);
  });
});
