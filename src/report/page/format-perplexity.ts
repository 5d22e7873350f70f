/** A perplexity with as many digits as it deserves. */
export function formatPerplexity(value: number): string {
  return value >= 1e5 ? value.toExponential(2) : value.toFixed(value < 100 ? 2 : 1);
}
