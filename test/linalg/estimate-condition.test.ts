import { choleskyInPlace } from '../../src/linalg/cholesky.js';
import { estimateCondition } from '../../src/linalg/estimate-condition.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';

/** A symmetric matrix with these eigenvalues: reflections of the diagonal one. */
function withEigenvalues(eigenvalues: readonly number[], seed: number): Float64Array {
  const size = eigenvalues.length;
  const random = createRandom(seed);
  let matrix = Float64Array.from({ length: size * size }, (_, at) =>
    at % (size + 1) === 0 ? eigenvalues[at / (size + 1)]! : 0,
  );
  for (let times = 0; times < 3; times++) {
    const normal = Array.from({ length: size }, () => drawNormal(random));
    const square = normal.reduce((sum, value) => sum + value * value, 0);
    const reflect = (i: number, j: number) => (i === j ? 1 : 0) - (2 * normal[i]! * normal[j]!) / square;
    const next = new Float64Array(size * size);
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++)
        for (let k = 0; k < size; k++)
          for (let l = 0; l < size; l++) next[i * size + j]! += reflect(i, k) * matrix[k * size + l]! * reflect(l, j);
    matrix = next;
  }
  return matrix;
}

it.each([
  [[4, 4, 4, 4, 4], 1],
  [[100, 3, 2, 2, 1], 100],
  [[1e6, 10, 5, 3, 1e-4], 1e10],
])('finds the condition of a matrix with eigenvalues %j', async (eigenvalues, condition) => {
  for (const seed of [1, 2, 3]) {
    const matrix = withEigenvalues(eigenvalues, seed);
    await choleskyInPlace(matrix, eigenvalues.length);
    const estimate = estimateCondition(matrix, eigenvalues.length);
    expect(estimate / condition).toBeGreaterThan(0.9);
    expect(estimate / condition).toBeLessThan(1 + 1e-5);
  }
});

it('is 1 for a matrix without rows', () => {
  expect(estimateCondition(new Float64Array(0), 0)).toBe(1);
});
