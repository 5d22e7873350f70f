import type { PairedDifference } from '../evaluation/compare-results.js';
import type { ModelComparison } from '../node.js';
import { numbers, words } from '../report/table-columns.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** Comparisons for people: the figures, then the verdict in words. */
export function formatComparisons(comparisons: readonly ModelComparison[], colors: Colors): string {
  return comparisons
    .map((comparison) => {
      const { file, a, b, itemCount, confidence, summary, verdict } = comparison;
      const heading = `${colors.bold(file)}, ${itemCount} items: ${a} (A) and ${b} (B)\n`;
      const paint = { same: colors.dim, worse: colors.yellow, better: colors.green }[verdict];
      return `${heading}${formatFigures(comparison, confidence)}${paint(summary)}\n`;
    })
    .join('\n');
}

function formatFigures({ accNorm, acc, goldNll }: ModelComparison, confidence: number): string {
  const interval = `${Number((100 * confidence).toFixed(1))} % interval`;
  return formatTable(
    [...words(''), ...numbers('A', 'B', 'B - A', interval, 'p')],
    [
      ...(accNorm ? [figureRow('acc_norm, %', accNorm, { scale: 100, digits: 1 })] : []),
      figureRow('acc, %', acc, { scale: 100, digits: 1 }),
      figureRow('-ln p of the right answer', goldNll, { scale: 1, digits: 3 }),
    ],
  );
}

function figureRow(
  name: string,
  { a, b, difference, interval, pValue }: PairedDifference,
  { scale, digits }: { readonly scale: number; readonly digits: number },
): string[] {
  const show = (value: number) => (value * scale).toFixed(digits);
  const p = pValue < 0.001 ? '< 0.001' : pValue.toFixed(3);
  return [name, show(a), show(b), show(difference), interval.map(show).join(' to '), p];
}
