import ndarray from 'ndarray';
import { columnSums } from '../../src/importance/column-sums.js';
import { weightInMetric } from '../../src/importance/weight-in-metric.js';
import { createRandom } from '../../src/linalg/random.js';

const random = createRandom(3);
const floats = (length: number) => Float32Array.from({ length }, () => random() * 2 - 1);

/** Uncentred covariance of `count` gradients of length `size`. */
function curvatureOf(size: number, count: number): Float64Array {
  const gradients = Array.from({ length: count }, () => floats(size));
  return Float64Array.from({ length: size * size }, (_, at) =>
    gradients.reduce((sum, g) => sum + (g[Math.floor(at / size)]! * g[at % size]!) / count, 0),
  );
}

it.each([
  ['with more tokens than outputs', 30],
  ['with fewer tokens than outputs', 4],
])('gives each column w the squared length w^T C w, %s', async (_, tokenCount) => {
  const [rows, columns] = [12, 7];
  const weight = ndarray(floats(rows * columns), [columns, rows]).transpose(1, 0);
  const curvature = curvatureOf(rows, tokenCount);
  const lengths = columnSums((await weightInMetric(weight, curvature)).weight, 'squares');
  for (let j = 0; j < columns; j++) {
    let expected = 0;
    for (let a = 0; a < rows; a++)
      for (let b = 0; b < rows; b++) expected += weight.get(a, j) * curvature[a * rows + b]! * weight.get(b, j);
    expect(lengths[j]! / expected).toBeCloseTo(1, 4);
  }
});

it('only scales the weight if the curvature is a multiple of the identity', async () => {
  const weight = ndarray(floats(20), [4, 5]);
  const curvature = Float64Array.from({ length: 16 }, (_, at) => (at % 5 === 0 ? 9 : 0));
  const lengths = columnSums((await weightInMetric(weight, curvature)).weight, 'squares');
  columnSums(weight, 'squares').forEach((length, j) => {
    expect(lengths[j]! / (9 * length)).toBeCloseTo(1, 5);
  });
});
