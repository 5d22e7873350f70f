import { formatBytes, formatCount } from './format-quantity.js';
import type { MetricReport } from './report-schema.js';

/** A model's figure with as many digits as it deserves, and its standard error. */
export function formatFigure({ kind, unit, standardErrors, ...figures }: MetricReport, of: 'dense' | 'pruned'): string {
  const value = figures[of] ?? Number.NaN;
  if (kind === 'accuracy') {
    const error = standardErrors?.[of];
    return `${(100 * value).toFixed(1)} %${error === undefined ? '' : ` ± ${(100 * error).toFixed(1)}`}`;
  }
  if (kind === 'memory' && unit === 'bytes') return formatBytes(value);
  if (kind === 'perplexity') return formatPerplexity(value);
  if (kind === 'speed') return String(Number(value.toPrecision(3)));
  return formatCount(value);
}

/** A perplexity with as many digits as it deserves. */
export function formatPerplexity(value: number): string {
  return value >= 1e5 ? value.toExponential(2) : value.toFixed(value < 100 ? 2 : 1);
}
