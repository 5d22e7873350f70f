import { createQuadraticForm } from '../../src/activations/quadratic-form.js';
import { type MultiplyTransposed, multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { chooseCodes, chooseCodesInParts } from '../../src/prune/choose-codes.js';
import { type BlockCodes, type BlockGrid, dequantise } from '../../src/quantisation/block-codes.js';
import { factoriseFeedback, roundWithFeedback } from '../../src/quantisation/error-feedback.js';
import { testEngine } from '../support/engine.js';

const [OUT, IN, SPLIT] = [64, 32, 40];
const GRID: BlockGrid = { bits: 4, blockSize: 16, hasZeroPoints: false, scaleType: 'float16' };

it('rounds a table in parts as each part alone, for less than the nearest levels', async () => {
  const random = createRandom(3);
  const normals = (count: number) => Float32Array.from({ length: count }, () => drawNormal(random));
  const weight = normals(OUT * IN);
  // Inputs that correlate: the Gram matrix of few directions, and some noise.
  const inputs = normals(IN * 4);
  const learned = new Float64Array(multiplyTransposed(inputs, inputs, { rows: IN, columns: IN, inner: 4 }));
  for (let channel = 0; channel < IN; channel += 1) learned[channel * (IN + 1)]! += 0.1;
  const problem = { grid: GRID, outCount: OUT, inCount: IN, learned, heldOut: new Float32Array(learned) };
  const form = await createQuadraticForm(testEngine);
  const multiply: MultiplyTransposed = async (left, right, shape) => multiplyTransposed(left, right, shape);
  const tools = { form, multiply };
  const partOf = (first: number, last: number) => ({ first, values: weight.slice(first * IN, last * IN) });
  async function* parts() {
    yield partOf(0, SPLIT);
    yield partOf(SPLIT, OUT);
  }
  const joined = await chooseCodesInParts(parts(), problem, tools, [1]);
  const alone = [];
  for (const { values } of [partOf(0, SPLIT), partOf(SPLIT, OUT)])
    alone.push(await chooseCodes({ ...problem, weight: values, outCount: values.length / IN }, tools, [1]));
  await form.release();
  expect([...joined.codes.codes]).toEqual(alone.flatMap(({ codes }) => [...codes.codes]));
  expect([...joined.codes.scales]).toEqual(alone.flatMap(({ codes }) => [...codes.scales]));
  expect(joined.chosen.cost).toBeCloseTo(alone[0]!.chosen.cost + alone[1]!.chosen.cost, 10);
  expect(joined.chosen.dampening).toBe(1);
  expect(joined.chosen.cost).toBeLessThan(0.7 * joined.nearest.cost);
});

it('uses coordinate descent in two bits where that lowers the cost on held-out tokens', async () => {
  const random = createRandom(5);
  const normals = (count: number) => Float32Array.from({ length: count }, () => drawNormal(random));
  const weight = normals(OUT * IN);
  const gramOf = (tokens: number) => {
    const inputs = normals(IN * tokens);
    return multiplyTransposed(inputs, inputs, { rows: IN, columns: IN, inner: tokens });
  };
  const [learned, unlike] = [gramOf(2 * IN), gramOf(2)];
  const form = await createQuadraticForm(testEngine);
  const multiply: MultiplyTransposed = async (left, right, shape) => multiplyTransposed(left, right, shape);
  const choose = async (bits: 2 | 4, heldOut: Float32Array<ArrayBuffer>) => {
    const problem = {
      grid: { ...GRID, bits },
      outCount: OUT,
      inCount: IN,
      learned: new Float64Array(learned),
      heldOut,
    };
    const { codes, chosen } = await chooseCodes({ ...problem, weight: weight.slice() }, { form, multiply }, [0.01]);
    const factor = await factoriseFeedback({ matrix: problem.learned, size: IN }, { dampening: 0.01, multiply });
    const fed = await roundWithFeedback({ ...problem, weight }, factor, multiply);
    const costOf = (of: BlockCodes) => {
      const errors = Float64Array.from(dequantise(of), (value, at) => weight[at]! - value);
      const shape = { rows: OUT, columns: IN, inner: IN };
      const product = multiplyTransposed(errors, new Float64Array(heldOut), shape);
      return errors.reduce((sum, error, at) => sum + error * product[at]!, 0);
    };
    return { chosen, cost: costOf(codes), fedCost: costOf(fed) };
  };
  const [alike, other, four] = [
    await choose(2, new Float32Array(learned)),
    await choose(2, new Float32Array(unlike)),
    await choose(4, new Float32Array(learned)),
  ];
  await form.release();
  expect(alike.chosen.usesDescent).toBe(true);
  expect(alike.cost).toBeLessThan(0.95 * alike.fedCost);
  expect(other.chosen.usesDescent).toBeUndefined();
  expect(other.cost).toBeLessThanOrEqual(other.fedCost);
  expect(four.chosen.usesDescent).toBeUndefined();
  expect(four.cost).toBe(four.fedCost);
});
