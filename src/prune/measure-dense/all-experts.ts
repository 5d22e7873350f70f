import type { RoutedToken } from '../../activations/expert-router.js';
import { FULL_CREDIBILITY } from '../../importance/credible-costs.js';
import { sum } from '../../linalg/sum.js';

/** Weights of tokens when every expert runs on all tokens, by expert. */
export interface ExpertWeights {
  /** Weight of a token that the router sends elsewhere; tokens of the expert keep their routing weights. */
  readonly others: Float64Array;
  /** Factor of both, so that all tokens together weigh as much as the expert's own tokens, or as one if it has none. */
  readonly scales: Float64Array;
}

/**
 * Weighs tokens for experts that run on all of them. Tokens that the router sends elsewhere weigh as much together as 32 mean
 * tokens of the expert: they matter where it has few tokens, and hardly where it has many.
 */
export function weighTokens(routes: readonly RoutedToken[], expertCount: number): ExpertWeights {
  const counts = new Float64Array(expertCount);
  const squares = new Float64Array(expertCount);
  for (const { experts, routingWeights } of routes)
    experts.forEach((expert, rank) => {
      counts[expert]! += 1;
      squares[expert]! += routingWeights[rank]! ** 2;
    });
  const mean = sum(squares) / Math.max(1, sum(counts));
  const worth = counts.map((count) => Math.min(FULL_CREDIBILITY, routes.length - count));
  return {
    others: counts.map((count, expert) => {
      const square = count === 0 ? mean : squares[expert]! / count;
      return count === routes.length ? 0 : Math.sqrt((square * worth[expert]!) / (routes.length - count));
    }),
    scales: counts.map((count, expert) => Math.sqrt(Math.max(1, count) / (count + worth[expert]!))),
  };
}

/** Routes that send every token to every expert, with these weights as routing weights. */
export function routeEverywhere(routes: readonly RoutedToken[], expertCount: number): RoutedToken[] {
  const { others, scales } = weighTokens(routes, expertCount);
  const experts = Array.from({ length: expertCount }, (_, expert) => expert);
  return routes.map((route) => {
    const routingWeights = Float64Array.from(others, (weight, expert) => scales[expert]! * weight);
    route.experts.forEach((expert, rank) => {
      routingWeights[expert] = scales[expert]! * route.routingWeights[rank]!;
    });
    return { experts, routingWeights };
  });
}
