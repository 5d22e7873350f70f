import { cutWindows } from '../../src/calibration/cut-windows.js';
import { OptionError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';

const tokens = Int32Array.from({ length: 23 }, (_, index) => index);

describe('cutWindows', () => {
  it('cuts the first windows, one after the other', () => {
    const windows = cutWindows(tokens, { windowCount: 2, windowLength: 4 });
    expect(windows.map((window) => [...window])).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ]);
  });

  it('cuts fewer windows than requested from a short text, and drops the remainder', () => {
    expect(cutWindows(tokens, { windowCount: 9, windowLength: 10 })).toHaveLength(2);
  });

  it('draws distinct windows that depend on the seed', () => {
    const draw = (seed: number) =>
      cutWindows(tokens, { windowCount: 5, windowLength: 2 }, createRandom(seed)).map((window) => window[0]!);
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    expect(new Set(draw(1)).size).toBe(5);
    expect(draw(1)).toEqual(draw(1).toSorted((a, b) => a - b));
    expect(draw(1).every((first) => first % 2 === 0)).toBe(true);
  });

  it('reports how many tokens were found and how many are needed', () => {
    expect(() => cutWindows(tokens, { windowCount: 3, windowLength: 24 })).toThrow(
      /found 23 tokens, .*needs 24 .*need 72/,
    );
  });

  it.each([
    [0, 4],
    [1.5, 4],
    [Number.NaN, 4],
    [1, 1],
    [1, Number.NaN],
  ])('refuses %p windows of %p', (windowCount, windowLength) => {
    expect(() => cutWindows(tokens, { windowCount, windowLength })).toThrow(OptionError);
  });
});
