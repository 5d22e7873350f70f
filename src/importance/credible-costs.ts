import { sum } from '../linalg/sum.js';
/** From this many tokens on, the measured cost of an expert is used unchanged. */
export const FULL_CREDIBILITY = 32;

/** By expert. */
export interface MeasuredCosts {
  /** Tokens routed to it. */
  readonly tokens: Float64Array;
  /** Cost of removing it alone, measured on them. */
  readonly costs: Float64Array;
}

/**
 * Costs of removing each expert alone, shrunk towards the mean so that experts with few tokens do not look cheap. Of an
 * expert with `n < 32` tokens, `C` the cost and `c = C / n` the cost per token:
 *
 *     (n + 1) (Z c + (1 - Z) m),  Z = sqrt(n / 32)
 *
 * `m` is the mean cost per token of the mixture's other experts: the cost of an expert without tokens. `Z` is the square-root
 * rule of limited-fluctuation credibility (Mowbray, "How Extensive a Payroll Exposure Is Necessary to Give a Dependable Pure
 * Premium?", 1914; Klugman, Panjer and Willmot, "Loss Models"), and `n + 1` Laplace's rule of succession.
 * From 32 tokens on, the measured cost is unchanged.
 */
export function credibleCosts({ tokens, costs }: MeasuredCosts): Float64Array {
  if (tokens.every((count) => count >= FULL_CREDIBILITY)) return costs;
  const [allTokens, allCosts] = [sum(tokens), sum(costs)];
  return costs.map((cost, expert) => {
    const count = tokens[expert]!;
    if (count >= FULL_CREDIBILITY) return cost;
    const own = count === 0 ? 0 : cost / count;
    const others = allTokens > count ? (allCosts - cost) / (allTokens - count) : own;
    const credibility = Math.sqrt(count / FULL_CREDIBILITY);
    return (count + 1) * (credibility * own + (1 - credibility) * others);
  });
}
