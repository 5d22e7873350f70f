import { NumericalError, OptionError } from '../../src/errors.js';
import { createTokenPicker } from '../../src/evaluation/sample-token.js';
import { createRandom } from '../../src/linalg/random.js';

const logits = Float32Array.of(Math.log(0.1), Math.log(0.2), Math.log(0.3), Math.log(0.4));

function frequencies(pick: ReturnType<typeof createTokenPicker>, draws = 20_000): number[] {
  const random = createRandom(7);
  const counts = [0, 0, 0, 0];
  for (let draw = 0; draw < draws; draw++) {
    const token = pick(logits, random);
    counts[token] = counts[token]! + 1 / draws;
  }
  return counts;
}

describe('createTokenPicker', () => {
  it('returns the first of the most likely tokens at temperature 0', () => {
    expect(createTokenPicker()(Float32Array.of(-1, 3, 3, 2), () => 0.5)).toBe(1);
  });

  it('draws with the probabilities of the softmax at temperature 1', () => {
    for (const [token, frequency] of frequencies(createTokenPicker({ temperature: 1 })).entries()) {
      expect(Math.abs(frequency - (token + 1) / 10)).toBeLessThan(0.015);
    }
  });

  it('squares probabilities at temperature 0.5', () => {
    for (const [token, frequency] of frequencies(createTokenPicker({ temperature: 0.5 })).entries()) {
      expect(Math.abs(frequency - (token + 1) ** 2 / 30)).toBeLessThan(0.015);
    }
  });

  it('draws among the k most likely', () => {
    const [none, least, third, half] = frequencies(createTokenPicker({ temperature: 1, topK: 2 }));
    expect([none, least]).toEqual([0, 0]);
    expect(third).toBeCloseTo(3 / 7, 1);
    expect(half).toBeCloseTo(4 / 7, 1);
    expect(frequencies(createTokenPicker({ temperature: 1, topK: 3 }))[0]).toBe(0);
  });

  it('returns a valid token for the smallest and largest random number', () => {
    const pick = createTokenPicker({ temperature: 1 });
    expect(pick(logits, () => 0)).toBe(0);
    expect(pick(logits, () => 1 - 2 ** -32)).toBe(3);
  });

  it('skips tokens with a logit of minus infinity', () => {
    const pick = createTokenPicker({ temperature: 1 });
    expect(pick(Float32Array.of(-Infinity, 0, -Infinity), () => 0)).toBe(1);
    expect(pick(Float32Array.of(-Infinity, 0, -Infinity), () => 0.9999)).toBe(1);
  });

  it.each([
    [-1, 1],
    [Number.NaN, 1],
    [Infinity, 1],
    [1, 0],
    [1, 1.5],
  ])('refuses temperature %p, topK %p', (temperature, topK) => {
    expect(() => createTokenPicker({ temperature, topK })).toThrow(OptionError);
  });

  it('throws on NaN logits', () => {
    for (const temperature of [0, 1]) {
      const pick = createTokenPicker({ temperature });
      expect(() => pick(Float32Array.of(Number.NaN, Number.NaN), () => 0.5)).toThrow(NumericalError);
    }
  });
});
