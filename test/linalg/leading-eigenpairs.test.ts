import { areLargest, findLeadingEigenpairs } from '../../src/linalg/leading-eigenpairs.js';
import { transposeMatrix } from '../../src/linalg/matrix-block.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { decomposeSymmetric } from '../support/decompose-symmetric.js';

const SIZE = 400;

/** Orthonormal rows: a reflection, which needs no decomposition. */
const AXES = (() => {
  const random = createRandom(7);
  const normal = Float64Array.from({ length: SIZE }, () => drawNormal(random));
  const square = normal.reduce((sum, value) => sum + value * value, 0);
  const entry = (row: number, column: number) =>
    (row === column ? 1 : 0) - (2 * normal[row]! * normal[column]!) / square;
  return Float64Array.from({ length: SIZE * SIZE }, (_, at) => entry(Math.floor(at / SIZE), at % SIZE));
})();

/** A symmetric matrix with these eigenvalues along `AXES`. */
function matrixOf(eigenvalues: readonly number[]): Float64Array {
  const scaled = AXES.map((value, at) => value * eigenvalues[at % SIZE]!);
  return multiplyTransposed(scaled, AXES, { rows: SIZE, columns: SIZE, inner: SIZE });
}

const spectrum = (eigenvalue: (rank: number) => number): number[] =>
  Array.from({ length: SIZE }, (_, i) => eigenvalue(i));

/** Upper bound on the sine of the largest angle between the spans of two sets of orthonormal rows. */
function distance(found: Float64Array, wanted: Float64Array, count: number): number {
  const overlaps = multiplyTransposed(wanted, found, { rows: count, columns: count, inner: SIZE });
  const inside = multiplyTransposed(overlaps, transposeMatrix(found, count, SIZE), {
    rows: count,
    columns: SIZE,
    inner: count,
  });
  return Math.sqrt(wanted.reduce((sum, value, at) => sum + (value - inside[at]!) ** 2, 0));
}

describe('findLeadingEigenpairs', () => {
  // Covariances of hidden states fall like this: some large ones, then steps of a percent.
  it.each([
    ['a falling spectrum', (i: number) => 1 / (1 + i)],
    ['a few outliers above a slow fall', (i: number) => (i < 3 ? 1e4 / (1 + i) : 0.985 ** i)],
  ])('spans the subspace of the leading eigenvectors: %s', async (_, eigenvalue) => {
    const count = 48;
    const found = await findLeadingEigenpairs(matrixOf(spectrum(eigenvalue)), SIZE, { count });
    expect(found).toBeDefined();
    expect(distance(found!.vectors, AXES.subarray(0, count * SIZE), count)).toBeLessThan(1e-10);
    found!.values.forEach((value, i) => {
      expect(Math.abs(value - eigenvalue(i))).toBeLessThan(1e-13 * eigenvalue(0));
    });
  });

  it('agrees with the full decomposition', async () => {
    const random = createRandom(1);
    const points = Float64Array.from({ length: SIZE * SIZE }, (_, at) => drawNormal(random) / (1 + (at % SIZE)));
    const matrix = multiplyTransposed(points, points, { rows: SIZE, columns: SIZE, inner: SIZE });
    const count = 32;
    const found = await findLeadingEigenpairs(matrix, SIZE, { count });
    const { vectors } = decomposeSymmetric(matrix, SIZE);
    expect(distance(found!.vectors, vectors.subarray(0, count * SIZE), count)).toBeLessThan(1e-10);
  });

  it('returns zeros after the eigenvalues of a matrix of lower rank than requested', async () => {
    const found = await findLeadingEigenpairs(matrixOf(spectrum((i) => (i < 5 ? 5 - i : 0))), SIZE, { count: 8 });
    expect(found!.values.slice(0, 5).map((value) => Math.round(value * 1e10) / 1e10)).toEqual(
      Float64Array.of(5, 4, 3, 2, 1),
    );
    expect(found!.values.slice(5).every((value) => Math.abs(value) < 1e-12)).toBe(true);
  });

  it('finds a repeated eigenvalue as often as it occurs', async () => {
    const matrix = matrixOf(spectrum((i) => (i < 20 ? 5 : 1 / (1 + i))));
    const found = await findLeadingEigenpairs(matrix, SIZE, { count: 24 });
    expect(found!.values.filter((value) => Math.abs(value - 5) < 1e-12)).toHaveLength(20);
  });

  it('returns undefined if the eigenvalues decay too slowly', async () => {
    expect(await findLeadingEigenpairs(matrixOf(spectrum((i) => 1 - i * 1e-6)), SIZE, { count: 48 })).toBeUndefined();
  });

  it('returns the same numbers from two concurrent calls', async () => {
    const matrix = matrixOf(spectrum((i) => 1 / (1 + i)));
    const [one, other] = [1, 2].map(() => findLeadingEigenpairs(matrix, SIZE, { count: 16 }));
    expect(await one).toEqual(await other);
  });
});

describe('areLargest', () => {
  const matrix = matrixOf(spectrum((i) => 1 / (1 + i)));
  const pairs = (...ranks: number[]) => ({
    values: Float64Array.from(ranks, (rank) => 1 / (1 + rank)),
    vectors: Float64Array.from(ranks.flatMap((rank) => [...AXES.subarray(rank * SIZE, (rank + 1) * SIZE)])),
  });

  it('accepts the largest', async () => {
    expect(await areLargest(matrix, pairs(0, 1, 2), multiplyTransposed)).toBe(true);
  });

  it('rejects pairs that skip a larger one', async () => {
    expect(await areLargest(matrix, pairs(0, 1, 3), multiplyTransposed)).toBe(false);
  });
});
