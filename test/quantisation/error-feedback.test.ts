import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { type BlockCodes, type BlockGrid, dequantise, roundToNearest } from '../../src/quantisation/block-codes.js';
import { factoriseFeedback, roundWithFeedback } from '../../src/quantisation/error-feedback.js';
import { fitScale } from '../../src/quantisation/fit-scale.js';

const [OUT, IN] = [6, 160];
const GRID: BlockGrid = { bits: 4, blockSize: 32, hasZeroPoints: true, scaleType: 'float32' };

/** Correlated inputs: 24 causes of 160 channels, and a little noise. */
function someHessian(): Float64Array {
  const random = createRandom(3);
  const causes = Float64Array.from({ length: IN * 24 }, () => drawNormal(random));
  const matrix = multiplyTransposed(causes, causes, { rows: IN, columns: IN, inner: 24 });
  for (let at = 0; at < IN; at += 1) matrix[at * IN + at]! += 0.5;
  return matrix;
}

const someWeight = (): Float32Array => {
  const random = createRandom(4);
  return Float32Array.from({ length: OUT * IN }, () => drawNormal(random));
};

/** `tr(E H E')`. */
function costOf(weight: Float32Array, codes: BlockCodes, hessian: Float64Array): number {
  const errors = Float64Array.from(dequantise(codes), (value, at) => weight[at]! - value);
  const product = multiplyTransposed(errors, hessian, { rows: OUT, columns: IN, inner: IN });
  return errors.reduce((sum, error, at) => sum + error * product[at]!, 0);
}

const multiply = multiplyTransposed;

describe('a factor of error feedback', () => {
  it('reproduces the dampened Hessian', async () => {
    const hessian = someHessian();
    const { feedback, costs } = await factoriseFeedback({ matrix: hessian, size: IN }, { dampening: 0.1, multiply });
    const unit = Array.from({ length: IN }, (_, at) => hessian[at * IN + at]!).reduce((sum, value) => sum + value) / IN;
    // U D U' with U' = feedback + 1.
    const unitTriangle = feedback.map((value, at) => (at % (IN + 1) === 0 ? 1 : value));
    for (const [row, column] of [
      [0, 0],
      [3, 90],
      [159, 159],
      [40, 41],
    ] as const) {
      let sum = 0;
      for (let k = 0; k < IN; k += 1) sum += unitTriangle[k * IN + row]! * costs[k]! * unitTriangle[k * IN + column]!;
      expect(sum).toBeCloseTo(hessian[row * IN + column]! + (row === column ? 0.1 * unit : 0), 8);
    }
  });
});

it('a factor of inputs that are always zero compensates nothing', async () => {
  const { feedback, costs } = await factoriseFeedback(
    { matrix: new Float64Array(9), size: 3 },
    { dampening: 0.01, multiply },
  );
  expect([...feedback]).toEqual(Array(9).fill(0));
  for (const cost of costs) expect(cost).toBeCloseTo(0.01, 12);
});

it('a scale is fitted to its codes by least squares', () => {
  const grid: BlockGrid = { bits: 2, blockSize: 4, hasZeroPoints: false, scaleType: 'float32' };
  const costs = Float64Array.of(1, 1, 1, 1);
  // In a quarter of the range, 0.9 would become 0.5.
  const { scale } = fitScale(grid, { values: Float64Array.of(-1, -1, 0.9, 0.9), costs });
  expect(scale).toBeCloseTo(0.58, 6);
});

describe('rounding with feedback', () => {
  it('costs less than 0.35 of rounding to nearest if inputs correlate', async () => {
    const [weight, matrix] = [someWeight(), someHessian()];
    const problem = { weight, outCount: OUT, inCount: IN, grid: GRID };
    const factor = await factoriseFeedback({ matrix, size: IN }, { dampening: 0.01, multiply });
    const fed = costOf(weight, await roundWithFeedback(problem, factor, multiply), matrix);
    expect(fed).toBeLessThan(0.35 * costOf(weight, roundToNearest(weight, problem), matrix));
  });

  it('costs less than rounding to nearest if inputs are independent', async () => {
    const weight = someWeight();
    const matrix = new Float64Array(IN * IN);
    for (let at = 0; at < IN; at += 1) matrix[at * IN + at] = 1 + (at % 7);
    const problem = { weight, outCount: OUT, inCount: IN, grid: GRID };
    const factor = await factoriseFeedback({ matrix, size: IN }, { dampening: 0, multiply });
    const fed = costOf(weight, await roundWithFeedback(problem, factor, multiply), matrix);
    expect(fed).toBeLessThan(costOf(weight, roundToNearest(weight, problem), matrix));
  });

  it('gives the same codes as channel by channel', async () => {
    // One block as wide as the row, so that one panel has all channels.
    const [weight, matrix] = [someWeight().slice(0, IN), someHessian()];
    const grid: BlockGrid = { ...GRID, blockSize: 256 };
    const factor = await factoriseFeedback({ matrix, size: IN }, { dampening: 0.01, multiply });
    const codes = await roundWithFeedback({ weight, outCount: 1, inCount: IN, grid }, factor, multiply);
    const [scale, zeroPoint] = [codes.scales[0]!, codes.zeroPoints![0]!];
    const rounded = dequantise(codes);
    for (let channel = 0; channel < IN; channel += 1) {
      let moved = weight[channel]!;
      for (let before = 0; before < channel; before += 1)
        moved += factor.feedback[channel * IN + before]! * (weight[before]! - rounded[before]!);
      const code = Math.min(15, Math.max(0, Math.round(moved / scale) + zeroPoint));
      expect(codes.codes[channel]).toBe(code);
    }
  });
});
