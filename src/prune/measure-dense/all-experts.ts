import type { RoutedToken } from '../../activations/expert-router.js';
import { FULL_CREDIBILITY } from '../../importance/credible-costs.js';

/** Weights of tokens in an expert that runs on all of them, by expert. */
export interface ExpertWeights {
  /** Of a token that the router sends elsewhere; those that it sends there keep their shares. */
  readonly others: Float64Array;
  /** Scales both so that all tokens together weigh as much as those that the router sends there; an expert without one counts one. */
  readonly scales: Float64Array;
}

/**
 * How tokens weigh in an expert that runs on all of them. Those that the router sends elsewhere weigh together as much as 32 mean tokens of
 * its own: they decide where the expert has few of its own, and hardly count where it has many.
 */
export function weighTokens(routes: readonly RoutedToken[], expertCount: number): ExpertWeights {
  const counts = new Float64Array(expertCount);
  const squares = new Float64Array(expertCount);
  for (const { experts, routingWeights } of routes)
    experts.forEach((expert, rank) => {
      counts[expert]! += 1;
      squares[expert]! += routingWeights[rank]! ** 2;
    });
  const total = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0);
  const mean = total(squares) / Math.max(1, total(counts));
  const worth = counts.map((count) => Math.min(FULL_CREDIBILITY, routes.length - count));
  return {
    others: counts.map((count, expert) => {
      const square = count === 0 ? mean : squares[expert]! / count;
      return count === routes.length ? 0 : Math.sqrt((square * worth[expert]!) / (routes.length - count));
    }),
    scales: counts.map((count, expert) => Math.sqrt(Math.max(1, count) / (count + worth[expert]!))),
  };
}

/** Routes that send every token to every expert, with weights in place of shares. */
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
