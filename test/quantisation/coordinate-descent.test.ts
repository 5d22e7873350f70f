import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import {
  type BlockCodes,
  type BlockGrid,
  dequantise,
  roundToNearest,
  storedScale,
} from '../../src/quantisation/block-codes.js';
import { descendCodes } from '../../src/quantisation/coordinate-descent.js';
import { factoriseFeedback, roundWithFeedback } from '../../src/quantisation/error-feedback.js';

// The last block of a row has 16 channels.
const [OUT, IN] = [6, 176];
const GRID: BlockGrid = { bits: 2, blockSize: 32, hasZeroPoints: true, scaleType: 'float16' };
const DAMPENING = 0.01;
const multiply = multiplyTransposed;

/** Correlated inputs: 24 causes of all channels, and a little noise. */
function someHessian(size: number): Float64Array {
  const random = createRandom(3);
  const causes = Float64Array.from({ length: size * 24 }, () => drawNormal(random));
  const matrix = multiplyTransposed(causes, causes, { rows: size, columns: size, inner: 24 });
  for (let at = 0; at < size; at += 1) matrix[at * (size + 1)]! += 0.5;
  return matrix;
}

function someWeight(length: number): Float32Array {
  const random = createRandom(4);
  return Float32Array.from({ length }, () => drawNormal(random));
}

/** `tr(E H E')` with the dampened Hessian. */
function costOf(weight: Float32Array, rounded: Float32Array, matrix: Float64Array, size: number): number {
  const errors = Float64Array.from(weight, (value, at) => value - rounded[at]!);
  const product = multiplyTransposed(errors, matrix, { rows: weight.length / size, columns: size, inner: size });
  const unit = Array.from({ length: size }, (_, at) => matrix[at * (size + 1)]!).reduce((sum, value) => sum + value);
  return errors.reduce((sum, error, at) => sum + error * (product[at]! + (DAMPENING * unit * error) / size), 0);
}

const copyOf = (codes: BlockCodes): BlockCodes => structuredClone(codes);

describe('coordinate descent', () => {
  it('lowers the cost of error feedback by a fifth in two bits', async () => {
    const [weight, matrix] = [someWeight(OUT * IN), someHessian(IN)];
    const hessian = { matrix, size: IN };
    const factor = await factoriseFeedback(hessian, { dampening: DAMPENING, multiply });
    const codes = await roundWithFeedback({ weight, outCount: OUT, inCount: IN, grid: GRID }, factor, multiply);
    const fed = costOf(weight, dequantise(codes), matrix, IN);
    await descendCodes(codes, weight, hessian, { dampening: DAMPENING, multiply });
    expect(costOf(weight, dequantise(codes), matrix, IN)).toBeLessThan(0.8 * fed);
    for (const scale of codes.scales) expect(storedScale(scale, 'float16')).toBe(scale);
    for (const code of codes.codes) expect(code).toBeLessThan(4);
  });

  it('agrees with trying every code, two passes over all channels', async () => {
    const [size, blockSize] = [40, 16];
    const grid: BlockGrid = { bits: 2, blockSize, hasZeroPoints: true, scaleType: 'float32' };
    const [weight, matrix] = [someWeight(size), someHessian(size)];
    const codes = roundToNearest(weight, { grid, outCount: 1, inCount: size });
    const expected = copyOf(codes);
    const cost = () => costOf(weight, dequantise(expected), matrix, size);
    for (let at = 0; at < 2 * size; at += 1) {
      const channel = at % size;
      let [best, least] = [-1, Infinity];
      for (let code = 0; code < 4; code += 1) {
        expected.codes[channel] = code;
        if (cost() < least) [best, least] = [code, cost()];
      }
      expected.codes[channel] = best;
      if ((channel + 1) % blockSize !== 0 && channel + 1 < size) continue;
      // The cost is a parabola over a block's scale: three points give its minimum.
      const block = Math.floor(channel / blockSize);
      const scale = expected.scales[block]!;
      const [here, above, below] = [0, 1, -1].map((step) => {
        expected.scales[block] = scale * (1 + step / 2);
        return cost();
      }) as [number, number, number];
      expected.scales[block] = scale * (1 + (below - above) / (above + below - 2 * here) / 4);
    }
    await descendCodes(codes, weight, { matrix, size }, { dampening: DAMPENING, multiply });
    expect(codes.codes).toEqual(expected.codes);
    for (const [at, scale] of codes.scales.entries()) expect(scale).toBeCloseTo(expected.scales[at]!, 5);
  });

  it('keeps weights that are on their levels', async () => {
    const matrix = someHessian(IN);
    const codes = roundToNearest(someWeight(OUT * IN), { grid: GRID, outCount: OUT, inCount: IN });
    const before = copyOf(codes);
    await descendCodes(codes, dequantise(codes), { matrix, size: IN }, { dampening: DAMPENING, multiply });
    expect(codes).toEqual(before);
  });

  it('keeps the codes of channels that are always zero', async () => {
    const weight = someWeight(OUT * IN);
    const codes = roundToNearest(weight, { grid: GRID, outCount: OUT, inCount: IN });
    const before = copyOf(codes);
    await descendCodes(
      codes,
      weight,
      { matrix: new Float64Array(IN * IN), size: IN },
      { dampening: DAMPENING, multiply },
    );
    expect(codes).toEqual(before);
  });
});
