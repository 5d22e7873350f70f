import { choleskyInPlace, invertFactorInPlace } from '../../src/linalg/cholesky.js';
import { mirrorLower, multiplySymmetric, subtractSymmetric } from '../../src/linalg/multiply-symmetric.js';
import { type MultiplyTransposed, multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { multiplyUpper, multiplyUpperInPlace } from '../../src/linalg/multiply-upper.js';
import { createRandom } from '../../src/linalg/random.js';

const random = createRandom(7);
const draw = (length: number) => Float64Array.from({ length }, () => random() - 0.5);
const upperOf = (size: number) => draw(size * size).map((value, at) => (at % size < Math.floor(at / size) ? 0 : value));

// 512 rows are one strip.
const SIZES = [1, 40, 512, 530];

/** A matrix product that counts its multiplications. */
function counting() {
  const seen = { count: 0 };
  const multiply: MultiplyTransposed = (left, right, shape) => {
    seen.count += shape.rows * shape.columns * shape.inner;
    return multiplyTransposed(left, right, shape);
  };
  return { seen, multiply };
}

function expectClose(found: Float64Array, wanted: Float64Array): void {
  expect(found).toHaveLength(wanted.length);
  let furthest = 0;
  for (const [at, value] of wanted.entries()) furthest = Math.max(furthest, Math.abs(found[at]! - value));
  expect(furthest).toBeLessThan(1e-12);
}

describe.each(SIZES)('of size %i', (size) => {
  const product = (rows: Float64Array, inner: number) =>
    multiplyTransposed(rows, rows, { rows: size, columns: size, inner });

  it('multiplies rows by themselves, and computes only part of large products', async () => {
    const rows = draw(size * 9);
    const { seen, multiply } = counting();
    expectClose(await multiplySymmetric(rows, { size, inner: 9, multiply }), product(rows, 9));
    expect(seen.count).toBeLessThanOrEqual(size * size * 9 * (size > 512 ? 0.99 : 1));
  });

  it('subtracts rows times themselves from the lower triangle of a square', async () => {
    const rows = draw((size - 1) * 9);
    const matrix = draw(size * size);
    const before = matrix.slice();
    await subtractSymmetric(matrix, rows, { size, start: 1, end: size, inner: 9, multiply: multiplyTransposed });
    const taken = multiplyTransposed(rows, rows, { rows: size - 1, columns: size - 1, inner: 9 });
    const lower = (values: Float64Array) => values.filter((_, at) => at % size <= Math.floor(at / size));
    const wanted = before.map((value, at) => {
      const [row, column] = [Math.floor(at / size), at % size];
      return row === 0 || column === 0 ? value : value - taken[(row - 1) * (size - 1) + column - 1]!;
    });
    expectClose(lower(matrix), lower(wanted));
  });

  it('multiplies an upper triangle by its transpose in place', async () => {
    const upper = upperOf(size);
    const wanted = product(upper, size);
    await multiplyUpperInPlace(upper, { size, multiply: multiplyTransposed });
    mirrorLower(upper, size);
    expectClose(upper, wanted);
  });

  it('multiplies an upper triangle by other rows, and skips zeros of large ones', async () => {
    const [upper, right] = [upperOf(size), draw(3 * size)];
    const { seen, multiply } = counting();
    const shape = { rows: size, columns: 3, inner: size };
    expectClose(
      await multiplyUpper(upper, right, { size, columns: 3, multiply }),
      multiplyTransposed(upper, right, shape),
    );
    expect(seen.count).toBeLessThanOrEqual(size * size * 3 * (size > 512 ? 0.99 : 1));
  });
});

it('inverts a factor whose halves take several strips', async () => {
  const size = 1040;
  const rows = draw(size * 4);
  const matrix = await multiplySymmetric(rows, { size, inner: 4, multiply: multiplyTransposed });
  for (let at = 0; at < size; at++) matrix[at * size + at]! += 1;
  const factor = matrix.slice();
  await choleskyInPlace(factor, size);
  await invertFactorInPlace(factor, size);
  await multiplyUpperInPlace(factor, { size, multiply: multiplyTransposed });
  mirrorLower(factor, size);
  const some = factor.subarray(0, 5 * size);
  const identity = multiplyTransposed(some, matrix, { rows: 5, columns: size, inner: size });
  expectClose(
    identity,
    new Float64Array(5 * size).map((_, at) => (at % size === Math.floor(at / size) ? 1 : 0)),
  );
});
