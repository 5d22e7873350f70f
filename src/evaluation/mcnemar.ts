/** Items on which just one of two models is right. */
export interface DiscordantCounts {
  readonly onlyA: number;
  readonly onlyB: number;
}

/** With more discordant items the error of the approximation is below 0.001. */
const EXACT_LIMIT = 1000;

/**
 * McNemar's two-sided test: probability of a split of the discordant items at least as uneven, if both models are
 * equally accurate. Exact (binomial) up to 1000 discordant items, beyond that chi-square with continuity correction.
 *
 * @returns p in [0, 1]; 1 when the models agree on every item.
 * @see https://en.wikipedia.org/wiki/McNemar%27s_test
 */
export function mcNemarTest({ onlyA, onlyB }: DiscordantCounts): number {
  const count = onlyA + onlyB;
  if (count === 0) return 1;
  if (count > EXACT_LIMIT) return chiSquareTail(Math.max(0, Math.abs(onlyA - onlyB) - 1) ** 2 / count);
  return Math.min(1, 2 * binomialTail(count, Math.min(onlyA, onlyB)));
}

/** P(X <= k) of n fair coins. */
function binomialTail(n: number, k: number): number {
  let logTerm = -n * Math.LN2;
  let sum = 0;
  for (let heads = 0; heads <= k; heads++) {
    sum += Math.exp(logTerm);
    logTerm += Math.log(n - heads) - Math.log(heads + 1);
  }
  return sum;
}

/** P(X >= x) of chi-square with one degree of freedom: twice the normal tail at the root. */
function chiSquareTail(x: number): number {
  return complementaryError(Math.sqrt(x / 2));
}

/** erfc for x >= 0, relative error below 1.2e-7. @see Numerical Recipes in C, 6.2 (Chebyshev fit) */
function complementaryError(x: number): number {
  const t = 1 / (1 + x / 2);
  const coefficients = [
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223,
    0.17087277,
  ];
  const polynomial = coefficients.reduceRight((sum, coefficient) => coefficient + t * sum, 0);
  return t * Math.exp(-x * x + polynomial);
}
