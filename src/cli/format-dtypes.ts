import { formatBytes } from '../report/format-quantity.js';
import type { DtypeReport, PruneReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import { formatTable } from './format-table.js';

const PARTS = ['ffn', 'attention', 'embedding', 'head', 'other'] as const;

/** A table of what was written in which dtype; nothing where no dtype was asked for. */
export function formatDtypes({ dtypes }: Pick<PruneReport, 'dtypes'>): string[] {
  if (dtypes === undefined) return [];
  const rows = dtypes.map(({ dtype, file, bytes, parts }) => [
    ...[dtype, file, formatBytes(bytes)],
    ...PARTS.map((part) => formatBytes(parts[part])),
  ]);
  const columns = [...words('dtype', 'file'), ...numbers('bytes', ...PARTS)];
  return [formatTable(columns, rows), ...dtypes.flatMap(formatRounding), ...dtypes.flatMap(formatDivergence)];
}

function formatRounding({ dtype, rounding }: DtypeReport): string[] {
  if (rounding === undefined) return [];
  const { learned, nearest, costRatio } = rounding;
  return [
    `${dtype}: ${learned} of ${learned + nearest} maps make up for their errors; on held-out tokens the errors cost ${costRatio.toFixed(2)} times what rounding to the nearest levels costs.\n`,
  ];
}

function formatDivergence({ dtype, divergence }: DtypeReport): string[] {
  if (divergence === undefined) return [];
  const { pruning, quantising, nearest, windowCount } = divergence;
  // No minus sign before what is nothing.
  const nats = (value: number) => Number(value.toFixed(4)).toFixed(4);
  const beside = nearest === undefined ? '' : `; the nearest levels would add ${nats(nearest)}`;
  return [
    `${dtype}: ${nats(pruning)} nats a token from the dense model by pruning, ${nats(quantising)} more by rounding, on ${windowCount} windows${beside}.\n`,
  ];
}
