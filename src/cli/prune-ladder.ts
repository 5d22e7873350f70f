import type { PruneReport } from '../report/report-schema.js';
import { formatBytes, formatCount, formatPercent } from './format-quantity.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** What a ladder came to. */
export interface LadderResult {
  readonly reports: readonly PruneReport[];
  /** Perplexity on a text, where one was given: of the dense model, and by rung. */
  readonly perplexity?: { readonly text: string; readonly dense: number; readonly rungs: readonly number[] };
}

/** A ladder for people: a row a rung, the dense model first. */
export function formatLadder({ reports, perplexity }: LadderResult, colors: Colors): string {
  const [first] = reports;
  if (first === undefined) return '';
  const rows = [
    { sparsity: 0, parameters: first.parameters.before, bytes: first.bytes.before, loss: perplexity?.dense },
    ...reports.map(({ sparsity, parameters, bytes }, at) => ({
      sparsity: sparsity.achieved,
      parameters: parameters.after,
      bytes: bytes.after,
      loss: perplexity?.rungs[at],
    })),
  ];
  const names = ['dense', ...reports.map(({ out, sparsity }) => out ?? formatPercent(sparsity.requested))];
  const cells = rows.map((row, at) => [
    names[at]!,
    formatPercent(row.sparsity),
    formatCount(row.parameters),
    formatBytes(row.bytes),
    ...(row.loss === undefined ? [] : [row.loss.toFixed(3), isDominated(row, rows) ? '' : '*']),
  ]);
  const columns = ['sparsity', 'parameters', 'bytes', ...(perplexity ? ['perplexity', 'Pareto'] : [])];
  const remarks = [...new Set(reports.flatMap((report) => report.remarks))];
  return [
    `${colors.bold('Ladder')} of ${first.model} (${first.method}, seed ${first.seed})\n`,
    formatTable([{ heading: '' }, ...columns.map((heading) => ({ heading, numeric: true }))], cells),
    ...(perplexity ? [`Perplexity on ${perplexity.text}. *: nothing smaller is better.\n`] : []),
    ...remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
  ].join('\n');
}

interface Point {
  readonly bytes: number;
  readonly loss?: number | undefined;
}

/** Whether another point is at least as small and as good, and better in one of both. */
function isDominated(point: Point, points: readonly Point[]): boolean {
  return points.some(
    ({ bytes, loss = Infinity }) =>
      bytes <= point.bytes &&
      loss <= (point.loss ?? Infinity) &&
      (bytes < point.bytes || loss < (point.loss ?? Infinity)),
  );
}
