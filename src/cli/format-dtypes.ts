import { formatDivergence, formatPerplexity } from '../report/format-figure.js';
import { formatBytes } from '../report/format-quantity.js';
import type { DtypeReport, PruneReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import { formatTable } from './format-table.js';

const PARTS = ['ffn', 'attention', 'embedding', 'head', 'other'] as const;

/** A table of what was written in which dtype; nothing where no dtype was asked for. */
export function formatDtypes({ dtypes }: Pick<PruneReport, 'dtypes'>): string[] {
  if (dtypes === undefined) return [];
  const isMeasured = dtypes.some(({ quality }) => quality !== undefined);
  const rows = dtypes.map(({ dtype, file, bytes, parts, quality }) => [
    ...[dtype, file, formatBytes(bytes)],
    ...PARTS.map((part) => formatBytes(parts[part])),
    ...(isMeasured ? [quality === undefined ? '' : formatPerplexity(quality.perplexity.pruned)] : []),
  ]);
  const columns = [...words('dtype', 'file'), ...numbers('bytes', ...PARTS, ...(isMeasured ? ['perplexity'] : []))];
  return [formatTable(columns, rows), ...dtypes.flatMap(formatRounding), ...dtypes.flatMap(formatCosts)];
}

function formatRounding({ dtype, rounding }: DtypeReport): string[] {
  if (rounding === undefined) return [];
  const { learned, nearest, costRatio } = rounding;
  return [
    `${dtype}: ${learned} of ${learned + nearest} maps make up for their errors; on held-out tokens the errors cost ${costRatio.toFixed(2)} times what rounding to the nearest levels costs.\n`,
  ];
}

function formatCosts({ dtype, divergence }: DtypeReport): string[] {
  if (divergence === undefined) return [];
  const { pruning, quantising, nearest, windowCount } = divergence;
  const beside = nearest === undefined ? '' : `; the nearest levels would add ${formatDivergence(nearest)}`;
  return [
    `${dtype}: ${formatDivergence(pruning)} nats a token from the dense model by pruning, ${formatDivergence(quantising)} more by rounding, on ${windowCount} windows${beside}.\n`,
  ];
}
