import { isLikeliest } from '../../src/evaluation/score-batch.js';

describe('isLikeliest', () => {
  const logits = { type: 'float32', dims: [2, 3], data: Float32Array.of(1, 3, 2, -5, -1, -1) } as const;

  it('requires the largest logit of every row, the first of equal ones', () => {
    expect(isLikeliest(logits, Int32Array.of(1, 1))).toBe(true);
    expect(isLikeliest(logits, Int32Array.of(1, 2))).toBe(false);
    expect(isLikeliest(logits, Int32Array.of(2, 1))).toBe(false);
  });

  it('compares float16 logits by their values', () => {
    // -1, -2, 0.5 and 1 as half-precision bits.
    const halves = { type: 'float16', dims: [2, 2], data: Uint16Array.of(0xbc00, 0xc000, 0x3800, 0x3c00) } as const;
    expect(isLikeliest(halves, Int32Array.of(0, 1))).toBe(true);
    expect(isLikeliest(halves, Int32Array.of(1, 1))).toBe(false);
    expect(isLikeliest(halves, Int32Array.of(0, 0))).toBe(false);
  });
});
