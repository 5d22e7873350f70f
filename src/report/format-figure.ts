import { formatBytes, formatCount, formatThreeDigits } from './format-quantity.js';
import type { MetricReport } from './report-schema.js';

/** A model's figure rounded to its precision, and its standard error. */
export function formatFigure({ kind, unit, standardErrors, ...figures }: MetricReport, of: 'dense' | 'pruned'): string {
  const value = figures[of] ?? Number.NaN;
  if (kind === 'accuracy') {
    const error = standardErrors?.[of];
    return `${(100 * value).toFixed(1)} %${error === undefined ? '' : ` ± ${(100 * error).toFixed(1)}`}`;
  }
  if (kind === 'memory' && unit === 'bytes') return formatBytes(value);
  if (kind === 'perplexity') return formatPerplexity(value);
  if (kind === 'speed') return formatThreeDigits(value);
  return formatCount(value);
}

/** A divergence in nats per token, without its unit. */
export function formatDivergence(nats: number): string {
  // Avoids `-0.0000`.
  return Number(nats.toFixed(4)).toFixed(4);
}

/** A loss in nats per token, or a difference of losses, without its unit. */
export function formatLoss(nats: number): string {
  return nats.toFixed(3);
}

/** A perplexity rounded for display. */
export function formatPerplexity(value: number): string {
  return value >= 1e5 ? value.toExponential(2) : value.toFixed(value < 100 ? 2 : 1);
}
