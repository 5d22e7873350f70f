import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { type RidgeProblem, solveRidge } from '../../src/linalg/solve-ridge.js';

const random = createRandom(3);
const draw = (length: number) => Float64Array.from({ length }, () => drawNormal(random));

const problemOf = (width: number, sampleCount: number): RidgeProblem => ({
  width,
  sampleCount,
  size: 3,
  dampening: 0.1,
  multiply: multiplyTransposed,
  features: draw(width * sampleCount),
  targets: draw(3 * sampleCount),
});

/** Half the gradient of what is minimised, `(M X - Y) Xᵀ + λ M`. */
function gradientOf(map: Float64Array, { features, targets, width, size, sampleCount, dampening }: RidgeProblem) {
  const lambda = (dampening * features.reduce((sum, value) => sum + value * value, 0)) / width;
  return Float64Array.from({ length: size * width }, (_, place) => {
    const [row, column] = [Math.floor(place / width), place % width];
    let sum = lambda * map[place]!;
    for (let at = 0; at < sampleCount; at += 1) {
      let error = -targets[row * sampleCount + at]!;
      for (let k = 0; k < width; k += 1) error += map[row * width + k]! * features[k * sampleCount + at]!;
      sum += error * features[column * sampleCount + at]!;
    }
    return sum;
  });
}

it.each([
  [6, 40],
  [40, 6],
  [7, 7],
])('finds the minimum with %d features and %d samples', async (width, sampleCount) => {
  const problem = problemOf(width, sampleCount);
  const map = await solveRidge(problem);
  expect(map).toHaveLength(3 * width);
  expect(Math.max(...map!.map(Math.abs))).toBeGreaterThan(0.01);
  for (const value of gradientOf(map!, problem)) expect(Math.abs(value)).toBeLessThan(1e-9);
});

it('returns undefined if all features are zero', async () => {
  expect(await solveRidge({ ...problemOf(4, 9), features: new Float64Array(36) })).toBeUndefined();
});
