import type { Bundle } from '../../src/evaluation/bundle.js';
import { type BatchLimits, planBatches } from '../../src/evaluation/plan-batches.js';

const LIMITS: BatchLimits = {
  hasCache: true,
  continuesTogether: true,
  tokenCount: 512,
  cachedTokenCount: 4096,
  rowCount: Number.POSITIVE_INFINITY,
};

/** A question of `context` tokens with answers of the given lengths; no two answers begin alike. */
function question(context: number, answers: readonly number[], seed = 0): Bundle {
  return answers.map((length, answer) => ({
    tokens: Int32Array.from({ length: context + length }, (_, at) => (at < context ? at + seed : 1000 + answer)),
    firstScored: context,
  }));
}

/** Tokens that the planned runs read, padding included. */
function plannedTokens(bundles: readonly Bundle[], limits = LIMITS): number {
  return planBatches(bundles, limits).reduce(
    (sum, { members, prefixLength, passes }) =>
      sum + members.length * prefixLength + passes.reduce((all, pass) => all + pass.length * pass.at(-1)!.length, 0),
    0,
  );
}

describe('planBatches', () => {
  it('reads sequences without a cached prefix together, whatever batches can continue', () => {
    const limits = { ...LIMITS, hasCache: false, continuesTogether: false };
    const [{ passes } = { passes: [] }] = planBatches([question(5, [3, 3])], limits);
    expect(passes.map(({ length }) => length)).toEqual([2]);
  });

  it('reads every sequence once, to its end', () => {
    const bundles = Array.from({ length: 40 }, (_, at) => question(5 + ((at * 7) % 40), [3, 9 + (at % 5), 4, 20], at));
    const plan = planBatches(bundles, LIMITS);
    const read = plan.flatMap(({ members, prefixLength, passes }) =>
      passes.flat().map(({ member, sequence, length }) => {
        const { tokens, firstScored } = bundles[members[member]!]![sequence]!;
        expect(prefixLength + length).toBe(tokens.length - 1);
        expect(prefixLength).toBeLessThan(firstScored);
        return `${members[member]} ${sequence}`;
      }),
    );
    expect(new Set(read).size).toBe(160);
    expect(read).toHaveLength(160);
    expect(Math.max(...plan.map(({ members }) => members.length))).toBeLessThanOrEqual(16);
    for (const { passes } of plan) {
      for (const pass of passes) {
        expect(pass.length * pass.at(-1)!.length).toBeLessThanOrEqual(LIMITS.tokenCount);
        expect(pass.map(({ length }) => length)).toEqual(pass.map(({ length }) => length).sort((a, b) => a - b));
      }
    }
  });

  it('reads a question once for all its answers', () => {
    // The last token of the context is read with the answers, whose own last tokens are not read.
    expect(plannedTokens([question(61, [10, 10, 10, 10])])).toBe(60 + 4 * 10);
    expect(plannedTokens([question(61, [10, 10, 10, 10])], { ...LIMITS, hasCache: false })).toBe(4 * 70);
  });

  it('shares the common prefix of different contexts', () => {
    const contexts = [Int32Array.of(1, 2, 3, 4, 9, 7, 7), Int32Array.of(1, 2, 3, 4, 8, 7, 7)];
    const [batch] = planBatches([contexts.map((tokens) => ({ tokens, firstScored: 5 }))], LIMITS);
    expect(batch!.prefixLength).toBe(4);
  });

  it('adds less than 10 % of padding and repeated tokens', () => {
    const bundles = Array.from({ length: 64 }, (_, at) => question(20 + ((at * 13) % 30), [5 + ((at * 5) % 40)], at));
    const needed = bundles.reduce((sum, [sequence]) => sum + sequence!.tokens.length - 1, 0);
    expect(plannedTokens(bundles)).toBeLessThan(1.1 * needed);
  });

  it('continues rows one by one if the cache requires it', () => {
    const plan = planBatches([question(9, [4, 5, 6]), question(9, [4, 5, 6], 50)], {
      ...LIMITS,
      continuesTogether: false,
    });
    expect(plan.flatMap(({ passes }) => passes.map((pass) => pass.length))).toEqual([1, 1, 1, 1, 1, 1]);
    expect(plan[0]!.members).toHaveLength(2);
  });

  it('respects the limits of rows and of cached tokens', () => {
    const bundles = Array.from({ length: 8 }, (_, at) => question(31, [5, 5], at));
    const single = planBatches(bundles, { ...LIMITS, rowCount: 1 });
    expect(
      single.every(({ members, passes }) => members.length === 1 && passes.every((pass) => pass.length === 1)),
    ).toBe(true);
    const narrow = planBatches(bundles, { ...LIMITS, cachedTokenCount: 130 });
    expect(narrow.every(({ members, passes }) => members.length <= 2 && passes.every((pass) => pass.length <= 4))).toBe(
      true,
    );
  });

  it('accepts a sequence longer than the limit of a run', () => {
    const plan = planBatches([question(2000, [700])], LIMITS);
    expect(plan).toHaveLength(1);
  });
});
