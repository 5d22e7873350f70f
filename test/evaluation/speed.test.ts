import { compareSpeeds, spreadOf } from '../../src/evaluation/speed.js';

describe('spreadOf', () => {
  it('is the median between the quartiles', () => {
    expect(spreadOf([5, 1, 4, 2, 3])).toEqual({ median: 3, low: 2, high: 4, values: [5, 1, 4, 2, 3] });
    expect(spreadOf([1, 2])).toMatchObject({ median: 1.5, low: 1.25, high: 1.75 });
    expect(spreadOf([7])).toMatchObject({ median: 7, low: 7, high: 7 });
  });
});

describe('compareSpeeds', () => {
  // A machine whose speed varies by half while both models take turns.
  const machine = [1, 0.6, 0.9, 1.1, 0.5, 0.8, 1];
  const own = (factors: readonly number[]) => machine.map((speed, round) => 100 * speed * factors[round % 2]!);

  it('compares the models by rounds, without the variation that both share', () => {
    const result = compareSpeeds(own([1.29, 1.31]), own([1, 1]));
    expect(result.verdict).toBe('faster');
    expect(result.ratio).toBeCloseTo(1.299, 2);
    expect(result.interval[0]).toBeGreaterThan(1.28);
    expect(result.interval[1]).toBeLessThan(1.32);
    expect(compareSpeeds(own([1, 1]), own([1.29, 1.31])).verdict).toBe('slower');
  });

  it('gives the verdict "same" for noise, tiny differences and equal speeds', () => {
    expect(compareSpeeds(own([0.9, 1.12]), own([1, 1])).verdict).toBe('same');
    expect(compareSpeeds(own([1.002, 1.003]), own([1, 1])).verdict).toBe('same');
    expect(compareSpeeds(own([1, 1]), own([1, 1]))).toEqual({ ratio: 1, interval: [1, 1], verdict: 'same' });
  });
});
