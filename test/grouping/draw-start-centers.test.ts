import { drawStartCenters } from '../../src/grouping/draw-start-centers.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';

const DIMENSIONS = 4;
const SEEDS = Array.from({ length: 40 }, (_, seed) => seed);

const draw = (points: Float64Array, seed: number, contextCount = 7) =>
  drawStartCenters({ points, dimensionCount: DIMENSIONS, contextCount, random: createRandom(seed) });

/** One cloud: no centre is the obvious one. */
function cloud(count: number): Float64Array {
  const random = createRandom(5);
  return Float64Array.from({ length: count * DIMENSIONS }, () => drawNormal(random));
}

/** Row of every centre among the points. */
function rowsOf(points: Float64Array, centers: Float64Array): number[] {
  const text = (matrix: Float64Array, row: number) => matrix.subarray(row * DIMENSIONS, (row + 1) * DIMENSIONS).join();
  const rows = Array.from({ length: points.length / DIMENSIONS }, (_, row) => text(points, row));
  return Array.from({ length: centers.length / DIMENSIONS }, (_, row) => rows.indexOf(text(centers, row)));
}

describe('drawStartCenters', () => {
  it('draws distinct points, which depend on the seed', () => {
    const points = cloud(500);
    const drawn = SEEDS.map((seed) => rowsOf(points, draw(points, seed)));
    for (const rows of drawn) {
      expect(Math.min(...rows)).toBeGreaterThanOrEqual(0);
      expect(new Set(rows).size).toBe(7);
    }
    expect(new Set(drawn.flat()).size).toBeGreaterThan(100);
    expect(draw(points, 3)).toEqual(draw(points, 3));
  });

  it('draws by squared distance: of two centres, the second is mostly far from the first', () => {
    // A far point has 100 times the weight of all 400 near ones together.
    const points = new Float64Array(401 * DIMENSIONS).map((_, at) => (at >= 400 * DIMENSIONS ? 100 : at % 2));
    const withFar = SEEDS.filter((seed) => rowsOf(points, draw(points, seed, 2)).includes(400));
    expect(withFar.length).toBeGreaterThanOrEqual(SEEDS.length - 2);
  });

  it('draws mostly the same points if all are perturbed, as in another precision', () => {
    const points = cloud(2000);
    const random = createRandom(9);
    const moved = points.map((value) => value * (1 + 1e-3 * drawNormal(random)));
    const same = SEEDS.filter(
      (seed) => rowsOf(points, draw(points, seed)).join() === rowsOf(moved, draw(moved, seed)).join(),
    );
    expect(same.length).toBeGreaterThanOrEqual(SEEDS.length - 4);
  });

  it('accepts identical points', () => {
    const points = new Float64Array(10 * DIMENSIONS).fill(2);
    expect([...draw(points, 0, 3)]).toEqual(new Array(3 * DIMENSIONS).fill(2));
  });
});
