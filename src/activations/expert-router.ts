import type { MixingName } from './mix-experts.js';
import { rankExperts, sharesOf } from './mix-experts.js';

/** Experts that a token goes to, with their shares. */
export interface Route {
  readonly experts: readonly number[];
  readonly shares: ArrayLike<number>;
}

/** Where one token goes. */
export interface RoutedToken extends Route {
  /** By the order of its experts: where it goes without that one. Absent: as many experts remain as tokens go to. */
  readonly without?: readonly Route[];
  /** The last of its experts and the next in the order have the same score, so that another kernel may choose the other. */
  readonly isTied?: boolean;
}

/** A router that sends tokens of a sample to some of the experts. */
export interface ExpertRouter {
  /** @param remaining by expert: 1 for those that are left */
  route(tokens: readonly number[], remaining: Uint8Array): Promise<RoutedToken[]>;
}

export interface ScoredTokens {
  /** `[tokens, experts]` */
  readonly scores: Float32Array;
  readonly expertCount: number;
  readonly expertsPerToken: number;
}

/** The router of a mixture in one operator: the operator chooses by the scores. */
export const routeByScores = (
  { scores, expertCount, expertsPerToken: count }: ScoredTokens,
  mixing: MixingName,
): ExpertRouter => ({
  async route(tokens, remaining) {
    return tokens.map((token) => {
      const row = scores.subarray(token * expertCount, (token + 1) * expertCount);
      const ranked = rankExperts(row, remaining, count + 1);
      const experts = ranked.experts.slice(0, count);
      const shares = sharesOf(ranked, mixing, { count }).subarray(0, count);
      if (ranked.experts.length <= count) return { experts, shares };
      const isTied = ranked.scores[count - 1] === ranked.scores[count];
      const without = experts.map((_, rank) => ({
        experts: ranked.experts,
        shares: sharesOf(ranked, mixing, { count, without: rank }),
      }));
      return { experts, shares, without, isTied };
    });
  },
});
