import { NumericalError } from '../../src/errors.js';
import { choleskyInPlace, invertFactorInPlace, solveRowsInPlace } from '../../src/linalg/cholesky.js';
import { type MultiplyTransposed, multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';

const random = createRandom(5);
const gaussian = (length: number) => Float64Array.from({ length }, () => drawNormal(random));
const largest = (values: Float64Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

function positiveDefinite(size: number): Float64Array {
  const points = gaussian(size * (size + 8));
  return multiplyTransposed(points, points, { rows: size, columns: size, inner: size + 8 });
}

// 128 columns are one block: sizes below, at and above its border.
const SIZES = [1, 2, 7, 128, 129, 300];

describe('multiplyTransposed', () => {
  it.each([
    [1, 1, 1],
    [4, 2, 3],
    [5, 3, 7],
    [9, 1, 2],
    [3, 6, 0],
  ])('multiplies [%i] x [%i], inner %i', (rows, columns, inner) => {
    const left = gaussian(rows * inner);
    const right = gaussian(columns * inner);
    const product = multiplyTransposed(left, right, { rows, columns, inner });
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        for (let i = 0; i < inner; i++) sum += left[row * inner + i]! * right[column * inner + i]!;
        expect(product[row * columns + column]).toBeCloseTo(sum, 12);
      }
    }
  });
});

describe('choleskyInPlace', () => {
  it.each(SIZES)('computes a lower triangle L with L L^T equal to the matrix, size %i', async (size) => {
    const matrix = positiveDefinite(size);
    const lower = matrix.slice();
    await choleskyInPlace(lower, size);
    const back = multiplyTransposed(lower, lower, { rows: size, columns: size, inner: size });
    expect(largest(back.map((value, at) => value - matrix[at]!))).toBeLessThan(1e-12 * largest(matrix));
    const above = lower.filter((_, at) => at % size > Math.floor(at / size));
    expect(above).toEqual(new Float64Array((size * (size - 1)) / 2));
  });

  it('multiplies through the port that it is given', async () => {
    const size = 300;
    const matrix = positiveDefinite(size);
    const [own, foreign] = [matrix.slice(), matrix.slice()];
    let calls = 0;
    const port: MultiplyTransposed = async (left, right, shape) => {
      calls++;
      return multiplyTransposed(left, right, shape);
    };
    await choleskyInPlace(own, size);
    await choleskyInPlace(foreign, size, port);
    expect(calls).toBeGreaterThan(2);
    expect(foreign).toEqual(own);
  });

  it('refuses singular matrices and NaN, and names the pivot', async () => {
    const rankOne = Float64Array.from({ length: 9 }, (_, at) => (1 + Math.floor(at / 3)) * (1 + (at % 3)));
    await expect(choleskyInPlace(rankOne, 3)).rejects.toThrow(/pivot 1 /);
    await expect(choleskyInPlace(Float64Array.of(1, 0, 0, Number.NaN), 2)).rejects.toThrow(NumericalError);
    await expect(choleskyInPlace(Float64Array.of(0), 1)).rejects.toThrow(/pivot 0 /);
  });
});

describe('invertFactorInPlace and solveRowsInPlace', () => {
  it.each(SIZES)('invert and solve, size %i', async (size) => {
    const matrix = positiveDefinite(size);
    const lower = matrix.slice();
    await choleskyInPlace(lower, size);
    const factor = lower.slice();
    await invertFactorInPlace(factor, size);
    for (let row = 0; row < size; row++) expect(largest(factor.subarray(row * size, row * size + row))).toBe(0);
    const inverse = multiplyTransposed(factor, factor, { rows: size, columns: size, inner: size });
    const product = multiplyTransposed(inverse, matrix, { rows: size, columns: size, inner: size });
    expect(largest(product.map((value, at) => value - (at % (size + 1) === 0 ? 1 : 0)))).toBeLessThan(1e-9);

    const rows = gaussian(3 * size);
    const solved = rows.slice();
    await solveRowsInPlace(lower, solved, { size });
    const back = multiplyTransposed(solved, matrix, { rows: 3, columns: size, inner: size });
    expect(largest(back.map((value, at) => value - rows[at]!))).toBeLessThan(1e-9);
  });
});
