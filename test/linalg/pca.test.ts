import { NumericalError, OptionError } from '../../src/errors.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { fitPca, projectPoints } from '../../src/linalg/pca.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';

/** A covariance with variances 1, 1/2, 1/3 ... along random axes. */
function covariance(size: number, rank = size): Float64Array {
  const random = createRandom(size);
  const points = Float64Array.from({ length: size * rank }, (_, at) => drawNormal(random) / Math.sqrt(1 + (at % rank)));
  return multiplyTransposed(points, points, { rows: size, columns: size, inner: rank });
}

describe('fitPca', () => {
  // 384 is the border between the full decomposition and iteration.
  it.each([
    [12, 12],
    [12, 5],
    [400, 400],
    [400, 6],
  ])('finds eigenvectors of size %i, rank %i', async (size, rank) => {
    const matrix = covariance(size, rank);
    const { componentCount, components, variances } = await fitPca(new Float64Array(size), matrix, {
      componentCount: 8,
    });
    expect(componentCount).toBe(8);
    for (let component = 0; component < 8; component++) {
      const vector = Float64Array.from({ length: size }, (_, i) => components[i * 8 + component]!);
      const image = multiplyTransposed(matrix, vector, { rows: size, columns: 1, inner: size });
      const errors = image.map((value, i) => Math.abs(value - variances[component]! * vector[i]!));
      expect(Math.max(...errors)).toBeLessThan(1e-12 * variances[0]!);
      expect(vector.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(1, 9);
      expect(vector.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0)).toBeGreaterThan(0);
      if (component > 0) expect(variances[component]!).toBeLessThanOrEqual(variances[component - 1]! + 1e-9);
    }
  });

  it('returns at most as many components as dimensions, also for constant points', async () => {
    const { componentCount, components } = await fitPca(Float64Array.of(1, 2, 3), new Float64Array(9), {
      componentCount: 64,
    });
    expect(componentCount).toBe(3);
    expect(components.every(Number.isFinite)).toBe(true);
  });

  it('refuses mismatched shapes, empty matrices and NaN', async () => {
    const pcaOf = (size: number, covariance: Float64Array) =>
      fitPca(new Float64Array(size), covariance, { componentCount: 2 });
    await expect(pcaOf(3, new Float64Array(8))).rejects.toThrow(OptionError);
    await expect(pcaOf(0, new Float64Array(0))).rejects.toThrow(OptionError);
    await expect(pcaOf(1, Float64Array.of(Number.NaN))).rejects.toThrow(NumericalError);
  });
});

describe('projectPoints', () => {
  it('keeps distances when no component is dropped', async () => {
    const pca = await fitPca(Float64Array.of(1, -2, 0), covariance(3), { componentCount: 3 });
    const projected = projectPoints(pca, Float32Array.of(1, 0, 3, -1, 2, 0.5));
    const distance = Math.hypot(...[0, 1, 2].map((i) => projected[i]! - projected[3 + i]!));
    expect(distance).toBeCloseTo(Math.hypot(2, -2, 2.5), 9);
  });
});
