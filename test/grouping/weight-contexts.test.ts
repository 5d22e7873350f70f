import { NumericalError, OptionError } from '../../src/errors.js';
import { weightContexts, weightTokens } from '../../src/grouping/weight-contexts.js';
import { WEIGHTING_VARIANTS, type WeightingName } from '../../src/grouping/weighting-variants.js';

const names = Object.keys(WEIGHTING_VARIANTS) as WeightingName[];
const centers = Float64Array.of(0, 0, 3, 4, 0, 1, 12, 5);
const counts = [10, 20, 5, 1];

describe.each(names)('weighting %s', (variant) => {
  it('has mean 1 over the tokens for every group', () => {
    for (const temperature of [
      { absolute: 9 },
      { relative: 0.5 },
      { relative: 1e-3 },
      { absolute: 1e-6 },
      { relative: 1e6 },
    ]) {
      const weights = weightContexts({ centers, counts, variant, temperature });
      for (let group = 0; group < 4; group++) {
        const sum = counts.reduce((total, count, context) => total + count * weights[group * 4 + context]!, 0);
        expect(sum).toBeCloseTo(36, 9);
      }
      expect(weights.every((weight) => weight >= 0)).toBe(true);
    }
  });

  it('ignores contexts without tokens, whose centre may be NaN', () => {
    const holed = Float64Array.of(0, 0, Number.NaN, Number.NaN, 0, 1, 12, 5);
    const weights = weightContexts({ centers: holed, counts: [10, 0, 5, 1], variant });
    expect([...weights.subarray(4, 8)]).toEqual([1, 1, 1, 1]);
    expect(weights.every(Number.isFinite)).toBe(true);
    expect(10 * weights[0]! + 5 * weights[2]! + weights[3]!).toBeCloseTo(16, 9);
  });
});

describe('weightContexts', () => {
  it('is the softmax of Eq. 6 up to the scale', () => {
    const weights = weightContexts({ centers, counts, temperature: { absolute: 9 } });
    expect(weights[1]! / weights[0]!).toBeCloseTo(Math.exp(-5 / 9), 12);
    expect(weights[3]! / weights[0]!).toBeCloseTo(Math.exp(-13 / 9), 12);
  });

  it('reads relative temperatures in units of the mean distance', () => {
    const distances = [5, 1, 13, Math.hypot(3, 3), Math.hypot(9, 1), Math.hypot(12, 4)];
    const absolute = (0.5 * distances.reduce((sum, distance) => sum + distance, 0)) / 6;
    const weights = weightContexts({ centers, counts });
    weightContexts({ centers, counts, temperature: { absolute } }).forEach((weight, at) => {
      expect(weights[at]).toBeCloseTo(weight, 12);
    });
    weightContexts({ centers: centers.map((value) => 1000 * value), counts }).forEach((weight, at) => {
      expect(weights[at]).toBeCloseTo(weight, 12);
    });
  });

  it('weights near contexts most by softmax, far ones by reverse, one by only-matched', () => {
    const order = (variant: WeightingName) => {
      const row = weightContexts({ centers, counts, variant }).subarray(0, 4);
      return [0, 1, 2, 3].sort((a, b) => row[b]! - row[a]!);
    };
    expect(order('softmax')).toEqual([0, 2, 1, 3]);
    expect(order('reverse')).toEqual([3, 1, 2, 0]);
    expect([...weightContexts({ centers, counts, variant: 'only-matched' }).subarray(0, 4)]).toEqual([3.6, 0, 0, 0]);
  });

  it('gives all contexts weight 1 if their centres are identical', () => {
    expect([...weightContexts({ centers: new Float64Array(8).fill(2), counts })]).toEqual(new Array(16).fill(1));
  });

  it('refuses temperatures that are not above 0, unknown variants and NaN centres', () => {
    for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => weightContexts({ centers, counts, temperature: { absolute: value } })).toThrow(OptionError);
      expect(() => weightContexts({ centers, counts, temperature: { relative: value } })).toThrow(
        /above 0, such as 0.5/,
      );
    }
    expect(() => weightContexts({ centers, counts, variant: 'none' as 'uniform' })).toThrow(OptionError);
    expect(() => weightContexts({ centers, counts: [] })).toThrow(OptionError);
    expect(() => weightContexts({ centers: centers.map(() => Number.NaN), counts })).toThrow(NumericalError);
  });
});

describe('weightTokens', () => {
  it('gives each token the weight of its context', () => {
    const table = Float64Array.of(1.5, 0.5, 0.25, 1.75);
    expect([...weightTokens(table, 1, [0, 1, 1, 0])]).toEqual([0.25, 1.75, 1.75, 0.25]);
  });
});
