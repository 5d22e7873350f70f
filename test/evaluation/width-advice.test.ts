import { adviseWidth, neighbouringWidths } from '../../src/evaluation/width-advice.js';

/** A machine that computes whole tiles, a hundred neurons in a millisecond. */
const tiled = (tile: number) => (width: number) => (Math.ceil(width / tile) * tile) / 100;
const timingsOf = (width: number, msOf: (width: number) => number) =>
  neighbouringWidths(width).map((near) => ({ width: near, prefillMs: 4 * msOf(near), decodeMs: msOf(near) }));

describe('neighbouringWidths', () => {
  it('are the width and the multiples below it', () => {
    expect(neighbouringWidths(1075)).toEqual([1075, 1072, 1056, 1024]);
    expect(neighbouringWidths(60)).toEqual([60, 56, 48, 32]);
    expect(neighbouringWidths(1024)).toEqual([1024]);
    expect(neighbouringWidths(5)).toEqual([5]);
  });
});

describe('adviseWidth', () => {
  it('advises the nearest multiple that fills whole tiles', () => {
    const advice = adviseWidth(1030, timingsOf(1030, tiled(64)));
    expect(advice).toMatchObject({ width: 1030, rounded: 1024 });
    expect(advice!.prefillRatio).toBeCloseTo(1030 / 1088, 6);
    expect(advice!.multiple).toBeLessThanOrEqual(128);
  });

  it('gives no advice if rounding saves nothing', () => {
    expect(adviseWidth(1030, timingsOf(1030, tiled(1)))).toBeUndefined();
    expect(adviseWidth(1075, timingsOf(1075, tiled(8)))).toBeUndefined();
    expect(adviseWidth(1024, timingsOf(1024, tiled(64)))).toBeUndefined();
  });

  it('gives no advice if prefill gets faster but decoding slower', () => {
    const timings = timingsOf(1030, tiled(1)).map((timing) =>
      timing.width === 1024
        ? { ...timing, prefillMs: timing.prefillMs * 0.9, decodeMs: timing.decodeMs * 1.3 }
        : timing,
    );
    expect(adviseWidth(1030, timings)).toBeUndefined();
  });
});
