import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom } from '../../src/linalg/random.js';
import { createEngineMultiply } from '../../src/runtime/engine-multiply.js';
import { testEngine } from '../support/engine.js';

const random = createRandom(5);
const matrix = (length: number) => Float64Array.from({ length }, () => random() - 0.5);

it.each([
  [4, 5, 6],
  [130, 90, 120],
])('is the product in float64, large or small: %i x %i over %i', async (rows, columns, inner) => {
  const [left, right] = [matrix(rows * inner), matrix(columns * inner)];
  const { multiply, release } = createEngineMultiply(testEngine);
  const product = await multiply(left, right, { rows, columns, inner });
  await release();
  const expected = multiplyTransposed(left, right, { rows, columns, inner });
  expect(product).toHaveLength(rows * columns);
  for (const [at, value] of expected.entries()) expect(Math.abs(product[at]! - value)).toBeLessThan(1e-12);
});

it.each([
  [4, 5, 6],
  [130, 90, 120],
])('is the product in float32 of float32 matrices: %i x %i over %i', async (rows, columns, inner) => {
  const [left, right] = [new Float32Array(matrix(rows * inner)), new Float32Array(matrix(columns * inner))];
  const { multiply, release } = createEngineMultiply(testEngine);
  const product = await multiply(left, right, { rows, columns, inner });
  await release();
  const expected = multiplyTransposed(new Float64Array(left), new Float64Array(right), { rows, columns, inner });
  expect(product).toBeInstanceOf(Float32Array);
  for (const [at, value] of expected.entries()) expect(Math.abs(product[at]! - value)).toBeLessThan(1e-5);
});

it('falls back to JavaScript if the engine has no float64 product', async () => {
  const load = () => Promise.reject(new Error('no float64'));
  const { multiply, release } = createEngineMultiply({ ...testEngine, load });
  const ones = new Float64Array(128 * 128).fill(1);
  expect((await multiply(ones, ones, { rows: 128, columns: 128, inner: 128 })).every((value) => value === 128)).toBe(
    true,
  );
  await release();
});
