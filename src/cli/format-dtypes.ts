import { counted } from '../counted.js';
import { formatDivergence, formatPerplexity } from '../report/format-figure.js';
import { formatBytes } from '../report/format-quantity.js';
import type { DtypeReport, PruneReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import { formatHealing } from './format-healing.js';
import { formatTable } from './format-table.js';

const PARTS = ['ffn', 'attention', 'embedding', 'head', 'other'] as const;

/** A table of the written dtypes; empty without `--dtype`. */
export function formatDtypes({ dtypes }: Pick<PruneReport, 'dtypes'>): string[] {
  if (dtypes === undefined) return [];
  const isMeasured = dtypes.some(({ quality }) => quality !== undefined);
  const rows = dtypes.map(({ dtype, file, bytes, parts, quality }) => [
    ...[dtype, file, formatBytes(bytes)],
    ...PARTS.map((part) => formatBytes(parts[part])),
    ...(isMeasured ? [quality === undefined ? '' : formatPerplexity(quality.perplexity.pruned)] : []),
  ]);
  const columns = [...words('dtype', 'file'), ...numbers('bytes', ...PARTS, ...(isMeasured ? ['perplexity'] : []))];
  return [
    formatTable(columns, rows),
    ...dtypes.flatMap(formatRounding),
    ...dtypes.flatMap(formatCosts),
    ...dtypes.flatMap(({ dtype, healing }) => formatHealing(healing, `${dtype}: healed after rounding`)),
  ];
}

function formatRounding({ dtype, rounding }: DtypeReport): string[] {
  if (rounding === undefined) return [];
  const { learned, nearest, costRatio } = rounding;
  return [
    `${dtype}: ${learned} of ${learned + nearest} linear layers were rounded with error feedback; on held-out tokens their error is ${costRatio.toFixed(2)} times that of rounding to nearest.\n`,
  ];
}

function formatCosts({ dtype, divergence }: DtypeReport): string[] {
  if (divergence === undefined) return [];
  const { pruning, quantising, nearest, windowCount } = divergence;
  const alternative = nearest === undefined ? '' : `; rounding to nearest would add ${formatDivergence(nearest)}`;
  return [
    `${dtype}: divergence from the dense model ${formatDivergence(pruning)} nats per token by pruning, ${formatDivergence(quantising)} more by rounding, on ${counted(windowCount, 'window')}${alternative}.\n`,
  ];
}
