import { fitPowerLaw } from '../../src/prune/fit-power-law.js';

describe('fitPowerLaw', () => {
  it('returns estimates unchanged without measurements', () => {
    expect(fitPowerLaw([])(0.3)).toBe(0.3);
  });

  it('scales by one measurement', () => {
    const law = fitPowerLaw([{ estimate: 0.1, measured: 0.2 }]);
    expect(law(0.3)).toBeCloseTo(0.6, 12);
    expect(law(0)).toBe(0);
  });

  it('fits a power law that all measurements follow', () => {
    const points = [0.01, 0.1, 1].map((estimate) => ({ estimate, measured: 2 * estimate ** 1.5 }));
    for (const estimate of [0.005, 0.05, 0.4, 2])
      expect(fitPowerLaw(points)(estimate)).toBeCloseTo(2 * estimate ** 1.5, 10);
  });

  it('is proportional if the estimates differ too little to tell the exponent', () => {
    const law = fitPowerLaw([
      { estimate: 1, measured: 1 },
      { estimate: 1.1, measured: 4 },
    ]);
    expect(law(2) / law(1)).toBeCloseTo(2, 12);
  });

  it.each([
    ['at most 3', 0, 3],
    ['at least 0.5', 0.9, 0.5],
  ])('has an exponent of %s', (_, measured, exponent) => {
    const law = fitPowerLaw([
      { estimate: 0.1, measured },
      { estimate: 1, measured: 1 },
    ]);
    expect(law(1) / law(0.1)).toBeCloseTo(10 ** exponent, 8);
  });
});
