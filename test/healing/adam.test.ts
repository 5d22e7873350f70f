import { learningRateOf, scheduleRate, stepAdam } from '../../src/healing/adam.js';

it('moves by the learning rate against the sign of the first gradient, whatever its size', () => {
  const weights = Float32Array.of(1, 1, 1);
  const moments = { first: new Float32Array(3), second: new Float32Array(3) };
  stepAdam(weights, moments, { gradient: Float32Array.of(4, -0.5, 0), scale: 0.1, learningRate: 0.01, step: 1 });
  expect([...weights].map((value) => Number(value.toFixed(6)))).toEqual([0.99, 1.01, 1]);
  expect(moments.first[0]).toBeCloseTo(0.04, 6);
  expect(moments.second[0]).toBeCloseTo(0.05 * 0.16, 6);
});

it('corrects the bias of the moving averages', () => {
  const weights = Float32Array.of(0);
  const moments = { first: new Float32Array(1), second: new Float32Array(1) };
  for (const [at, gradient] of [1, -1].entries())
    stepAdam(weights, moments, { gradient: Float32Array.of(gradient), scale: 1, learningRate: 1, step: at + 1 });
  // m = (0.9 x 0.1 - 0.1) / (1 - 0.81), v = 1.
  expect(weights[0]).toBeCloseTo(-1 + 0.01 / 0.19, 5);
});

it('warms up over 5 of 100 steps, then decays to above 0', () => {
  const rates = Array.from({ length: 100 }, (_, at) => scheduleRate(at + 1, 100));
  expect(rates.slice(0, 5)).toEqual([1, 2, 3, 4, 5].map((step) => step / 5));
  expect(rates.slice(5).every((rate, at) => rate < rates[at + 4]! && rate > 0)).toBe(true);
});

it('warms up over four steps of a short training, or a quarter of a shorter one', () => {
  expect([1, 2, 3, 4].map((step) => scheduleRate(step, 16))).toEqual([0.25, 0.5, 0.75, 1]);
  expect([1, 2].map((step) => scheduleRate(step, 8))).toEqual([0.5, 1]);
  expect(scheduleRate(1, 1)).toBe(1);
});

it('gives larger models smaller learning rates', () => {
  expect(learningRateOf(135e6)).toBeCloseTo(2e-4, 12);
  expect(learningRateOf(8 * 135e6)).toBeCloseTo(1e-4, 12);
});
