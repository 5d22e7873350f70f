import { OptionError } from '../../src/errors.js';
import {
  type ComparablePerplexity,
  comparePerplexities,
  explainPerplexities,
} from '../../src/evaluation/compare-perplexities.js';
import { createRandom } from '../../src/linalg/random.js';

const protocol = { textSha256: 'text', tokensSha256: 'tokens', windowLength: 101, stride: 101 };

/** Losses per token, by window of 100 scored tokens. */
const on = (losses: readonly number[], changes: Partial<typeof protocol & { leadingTokens: readonly number[] }> = {}) =>
  ({
    windows: losses.map((loss) => ({ nll: 100 * loss, tokenCount: 100 })),
    protocol: { ...protocol, ...changes },
  }) satisfies ComparablePerplexity;

const random = createRandom(5);
const noise = () => random() + random() - 1;
/** Windows vary far more than the models differ. */
const dense = Array.from({ length: 40 }, () => 3 + noise());

describe('comparePerplexities', () => {
  it('detects a difference far below the variation between windows', () => {
    const other = dense.map((loss) => loss + 0.05 + 0.05 * noise());
    const comparison = comparePerplexities(on(dense), on(other));
    expect(comparison).toMatchObject({ windowCount: 40, tokenCount: 4000, confidence: 0.95, verdict: 'worse' });
    const { a, b, difference, interval, pValue } = comparison.logPerplexity;
    expect(b - a).toBeCloseTo(difference, 12);
    expect(interval![0]).toBeGreaterThan(0.03);
    expect(interval![1]).toBeLessThan(0.07);
    expect(pValue).toBeLessThan(1e-6);
    expect(explainPerplexities(comparison)).toMatch(
      /^B is worse: its perplexity is [45]\.\d % higher \(95 % interval [345]\.\d to [567]\.\d %\)\.$/,
    );
    const reversed = comparePerplexities(on(other), on(dense));
    expect(reversed.verdict).toBe('better');
    expect(explainPerplexities(reversed)).toMatch(
      /^B is better: its perplexity is [45]\.\d % lower \(95 % interval [345]\.\d to [56]\.\d %\)\.$/,
    );
  });

  it('gives the interval and p of a paired t-test', () => {
    // t = 2.0605 with 4 degrees of freedom; p from the integral of the density by Simpson's rule.
    const comparison = comparePerplexities(on([3, 2, 4, 4, 2]), on([3.1, 2.2, 4.4, 3.9, 2.5]));
    const { difference, interval, pValue } = comparison.logPerplexity;
    expect(difference).toBeCloseTo(0.22, 12);
    expect(interval![0]).toBeCloseTo(-0.0764, 4);
    expect(interval![1]).toBeCloseTo(0.5164, 4);
    expect(pValue).toBeCloseTo(0.1084, 4);
    expect(comparison.verdict).toBe('same');
    expect(comparePerplexities(on([3, 2, 4, 4, 2]), on([3.1, 2.2, 4.4, 3.9, 2.5]), { confidence: 0.85 }).verdict).toBe(
      'worse',
    );
  });

  it('finds a difference in about 5 % of pairs of equal models', () => {
    const differs = () => {
      const losses = Array.from({ length: 12 }, () => 3 + noise());
      const other = losses.map((loss) => loss + 0.2 * noise());
      return comparePerplexities(on(losses), on(other)).verdict !== 'same';
    };
    const count = Array.from({ length: 2000 }, differs).filter(Boolean).length;
    expect(count).toBeGreaterThan(60);
    expect(count).toBeLessThan(140);
  });

  it('finds no difference from itself, and none in rounding errors', () => {
    const same = comparePerplexities(on(dense), on(dense));
    expect(same).toMatchObject({ verdict: 'same', logPerplexity: { difference: 0, interval: [0, 0], pValue: 1 } });
    expect(explainPerplexities(same)).toBe(
      'No difference beyond noise on 40 windows: perplexity changes by 0.0 to 0.0 % (95 % interval).',
    );
    const rounded = comparePerplexities(on(dense), on(dense.map((loss) => loss + 0.001)));
    expect(rounded.logPerplexity.pValue).toBeLessThan(0.01);
    expect(rounded.verdict).toBe('same');
    expect(explainPerplexities(rounded)).toMatch(/^No difference beyond rounding on 40 windows/);
  });

  it('gives no verdict on fewer than three windows', () => {
    const comparison = comparePerplexities(on([3, 4]), on([5, 6]));
    expect(comparison.logPerplexity).toEqual({ a: 3.5, b: 5.5, difference: 2 });
    expect(comparison).not.toHaveProperty('verdict');
    expect(explainPerplexities(comparison)).toMatch(/^2 windows cannot show .* 3 windows at least\.$/);
  });

  it.each([
    ['textSha256', on(dense, { textSha256: 'other' }), /textSha256 is text in A and other in B/],
    ['windowLength', on(dense, { windowLength: 102 }), /windowLength is 101 in A and 102 in B/],
    ['stride', on(dense, { stride: 50 }), /stride is 101 in A and 50 in B/],
    ['windowCount', on(dense.slice(1)), /windowCount is 40 in A and 39 in B/],
    ['tokensSha256', on(dense, { tokensSha256: 'x'.repeat(64) }), /tokensSha256 is tokens in A and xxxxxxxxxxxx\.\.\./],
  ])('refuses another %s', (_, other, message) => {
    expect(() => comparePerplexities(on(dense), other)).toThrow(OptionError);
    expect(() => comparePerplexities(on(dense), other)).toThrow(message);
  });

  it('refuses other leading tokens, mismatched windows, and no windows', () => {
    const scored = (...counts: number[]) => ({
      windows: counts.map((tokenCount) => ({ nll: 1, tokenCount })),
      protocol,
    });
    expect(() => comparePerplexities(scored(100, 100), scored(101, 101))).toThrow(/bos is false in A and true in B/);
    expect(() => comparePerplexities(scored(100, 100), scored(100, 99))).toThrow(/tokens scored by window/);
    expect(() => comparePerplexities(scored(), scored())).toThrow(/no windows/);
    expect(() => comparePerplexities(on([1, 2], { leadingTokens: [1] }), on([1, 2], { leadingTokens: [2] }))).toThrow(
      /leadingTokens is 1 in A and 2 in B/,
    );
  });
});
