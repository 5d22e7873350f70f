import { createQuadraticForm } from '../../src/activations/quadratic-form.js';
import { type MultiplyTransposed, multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { chooseCodes, chooseCodesInParts } from '../../src/prune/choose-codes.js';
import type { BlockGrid } from '../../src/quantisation/block-codes.js';
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
