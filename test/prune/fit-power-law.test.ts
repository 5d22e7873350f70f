import { fitPowerLaw } from '../../src/prune/size/fit-power-law.js';

describe('fitPowerLaw', () => {
  it('leaves estimates as they are without measurements', () => {
    expect(fitPowerLaw([])(0.3)).toBe(0.3);
  });

  it('scales by one measurement', () => {
    const law = fitPowerLaw([{ estimate: 0.1, measured: 0.2 }]);
    expect(law(0.3)).toBeCloseTo(0.6, 12);
    expect(law(0)).toBe(0);
  });

  it('finds a power law that holds everywhere', () => {
    const points = [0.01, 0.1, 1].map((estimate) => ({ estimate, measured: 2 * estimate ** 1.5 }));
    for (const estimate of [0.005, 0.05, 0.4, 2])
      expect(fitPowerLaw(points)(estimate)).toBeCloseTo(2 * estimate ** 1.5, 10);
  });

  it('follows the nearest measurements where no power law holds everywhere', () => {
    // SmolLM2 in several dtypes: shares of one rounding cost more than they do together, where predictions are lost already.
    const points = [
      { estimate: 0.002, measured: 0.002 },
      { estimate: 0.094, measured: 0.094 },
      { estimate: 0.366, measured: 0.512 },
      { estimate: 1.487, measured: 1.487 },
    ];
    const law = fitPowerLaw(points);
    for (const { estimate, measured } of points) expect(Math.abs(law(estimate) / measured - 1)).toBeLessThan(0.06);
    expect(law(0.4)).toBeGreaterThan(0.5);
    // One law for all points says 0.41.
    expect(law(0.366)).toBeGreaterThan(0.48);
  });
});
