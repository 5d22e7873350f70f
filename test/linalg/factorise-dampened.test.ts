import { NumericalError } from '../../src/errors.js';
import { factoriseDampened } from '../../src/linalg/factorise-dampened.js';

/** Factorises the diagonal matrix of 1 and `second`, in steps of 1. */
const factorise = (second: number, dampening: number) =>
  factoriseDampened({ size: 2, copy: () => Float64Array.of(1, 0, 0, second), unit: 1, dampening });

describe('factoriseDampened', () => {
  it.each([
    [1, 0, 0],
    [0, 0.01, 0.01],
    [0, 0, 1e-5],
    [-2e-5, 1e-6, 1e-4],
    [-0.5, 1e-3, 1],
  ])('raises the dampening tenfold until it suffices: %d, %d', async (second, asked, used) => {
    const { lower, dampening } = await factorise(second, asked);
    expect(dampening).toBe(used);
    expect([...lower.map((value) => value * value)]).toEqual([
      expect.closeTo(1 + used, 12),
      0,
      0,
      expect.closeTo(second + used, 12),
    ]);
  });

  it('reports the dampening that it tried if none suffices', async () => {
    await expect(factorise(-1, 1e-6)).rejects.toThrow(NumericalError);
    await expect(factorise(-1, 1e-6)).rejects.toThrow(/size 2 .*even with dampening 0\.001 \(requested: 0\.000001\)/);
  });
});
