import type { MixingName } from './mix-experts.js';
import { rankExperts, routingWeightsOf } from './mix-experts.js';

/** Experts that a token is routed to, with their routing weights. */
export interface Route {
  readonly experts: readonly number[];
  readonly routingWeights: ArrayLike<number>;
}

/** Routing of one token. */
export interface RoutedToken extends Route {
  /** Routing without each of its experts, in their order. Absent: only as many experts remain as the router needs. */
  readonly without?: readonly Route[];
  /** Whether the last chosen and the next expert have the same score, so that another kernel may choose the other. */
  readonly isTied?: boolean;
}

/** Routes the tokens of a sample to the remaining experts. */
export interface ExpertRouter {
  /** @param remaining by expert: 1 for those that remain */
  route(tokens: readonly number[], remaining: Uint8Array): Promise<RoutedToken[]>;
}

export interface ScoredTokens {
  /** `[tokens, experts]` */
  readonly scores: Float32Array;
  readonly expertCount: number;
  readonly expertsPerToken: number;
}

/** The router of a fused mixture, whose operator chooses by the scores. */
export const routeByScores = (
  { scores, expertCount, expertsPerToken: count }: ScoredTokens,
  mixing: MixingName,
): ExpertRouter => ({
  async route(tokens, remaining) {
    return tokens.map((token) => {
      const row = scores.subarray(token * expertCount, (token + 1) * expertCount);
      const ranked = rankExperts(row, remaining, count + 1);
      const experts = ranked.experts.slice(0, count);
      const routingWeights = routingWeightsOf(ranked, mixing, { count }).subarray(0, count);
      if (ranked.experts.length <= count) return { experts, routingWeights };
      const isTied = ranked.scores[count - 1] === ranked.scores[count];
      const without = experts.map((_, rank) => ({
        experts: ranked.experts,
        routingWeights: routingWeightsOf(ranked, mixing, { count, without: rank }),
      }));
      return { experts, routingWeights, without, isTied };
    });
  },
});
