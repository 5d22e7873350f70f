import { decomposeLeading } from '../../src/linalg/decompose-leading.js';
import { transposeMatrix } from '../../src/linalg/matrix-block.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { decomposeSymmetric } from '../support/decompose-symmetric.js';

const largest = (values: Float64Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** A symmetric matrix with the eigenvalues given and random eigenvectors. */
function withEigenvalues(values: readonly number[], seed: number): Float64Array {
  const size = values.length;
  const random = createRandom(seed);
  const draw = Float64Array.from({ length: size * size }, () => drawNormal(random));
  const square = { rows: size, columns: size, inner: size };
  const { vectors } = decomposeSymmetric(multiplyTransposed(draw, draw, square), size);
  const columns = transposeMatrix(vectors, size, size);
  const found = multiplyTransposed(
    columns.map((entry, at) => entry * values[at % size]!),
    columns,
    square,
  );
  return found.map((entry, at) => (entry + found[(at % size) * size + Math.floor(at / size)]!) / 2);
}

const CASES: readonly (readonly [string, readonly number[], number])[] = [
  ['one number', [3], 1],
  ['two', [2, -5], 2],
  ['all equal', Array.from({ length: 12 }, () => 1), 5],
  ['all zero', Array.from({ length: 7 }, () => 0), 3],
  ['of rank 1', [4, ...Array.from({ length: 19 }, () => 0)], 6],
  ['of either sign', Array.from({ length: 31 }, (_, i) => 10 - i), 31],
  ['decaying to zero', Array.from({ length: 60 }, (_, i) => 0.6 ** i), 20],
  ['in clusters', Array.from({ length: 48 }, (_, i) => 8 - Math.floor(i / 8) + 1e-9 * (i % 8)), 30],
  ['repeated', Array.from({ length: 40 }, (_, i) => 1 + Math.floor((40 - i) / 10)), 25],
  ['tiny', Array.from({ length: 20 }, (_, i) => 1e-30 / (1 + i)), 8],
];

describe('decomposeLeading', () => {
  it.each(CASES)('finds the largest eigenpairs if eigenvalues are %s', (_name, wanted, count) => {
    const size = wanted.length;
    const matrix = withEigenvalues(wanted, size);
    const copy = matrix.slice();
    const { values, vectors } = decomposeLeading(matrix, size, count);
    expect(matrix).toEqual(copy);
    const scale = Math.max(...wanted.map(Math.abs));
    const sorted = wanted.toSorted((a, b) => b - a).slice(0, count);
    expect(largest(values.map((value, at) => value - sorted[at]!))).toBeLessThanOrEqual(1e-13 * scale);
    const overlaps = multiplyTransposed(vectors, vectors, { rows: count, columns: count, inner: size });
    expect(largest(overlaps.map((value, at) => value - (at % (count + 1) === 0 ? 1 : 0)))).toBeLessThan(1e-11);
    const images = multiplyTransposed(vectors, matrix, { rows: count, columns: size, inner: size });
    const residuals = images.map((value, at) => value - values[Math.floor(at / size)]! * vectors[at]!);
    expect(largest(residuals)).toBeLessThanOrEqual(1e-13 * scale);
  });

  it('finds the eigenpairs of a diagonal matrix', () => {
    const { values, vectors } = decomposeLeading(Float64Array.of(1, 0, 0, 0, 3, 0, 0, 0, 2), 3, 2);
    expect([...values].map((value) => value.toFixed(12))).toEqual(['3.000000000000', '2.000000000000']);
    expect(Math.abs(vectors[1]!)).toBeCloseTo(1, 12);
    expect(Math.abs(vectors[5]!)).toBeCloseTo(1, 12);
  });
});
