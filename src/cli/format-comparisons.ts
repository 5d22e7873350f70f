import { counted } from '../counted.js';
import type { PairedDifference } from '../evaluation/compare-results.js';
import type { ModelComparison } from '../node.js';
import { numbers, words } from '../report/table-columns.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** Comparisons for people: the figures, then the verdict in words. */
export function formatComparisons(comparisons: readonly ModelComparison[], colors: Colors): string {
  return comparisons
    .map((comparison) => {
      const { file, a, b, summary, verdict } = comparison;
      const count =
        comparison.kind === 'task' ? counted(comparison.itemCount, 'item') : counted(comparison.windowCount, 'window');
      const heading = `${colors.bold(file)}, ${count}: ${a} (A) and ${b} (B)\n`;
      const paint = { same: colors.dim, worse: colors.yellow, better: colors.green }[verdict ?? 'same'];
      return `${heading}${formatFigures(comparison)}${paint(summary)}\n`;
    })
    .join('\n');
}

function formatFigures(comparison: ModelComparison): string {
  const interval = `${Number((100 * comparison.confidence).toFixed(1))} % interval`;
  return formatTable([...words(''), ...numbers('A', 'B', 'B - A', interval, 'p')], figureRows(comparison));
}

function figureRows(comparison: ModelComparison): string[][] {
  if (comparison.kind === 'perplexity') {
    return [figureRow('ln perplexity', comparison.logPerplexity, { scale: 1, digits: 3 })];
  }
  const { accNorm, acc, goldNll } = comparison;
  return [
    ...(accNorm ? [figureRow('acc_norm, %', accNorm, { scale: 100, digits: 1 })] : []),
    figureRow('acc, %', acc, { scale: 100, digits: 1 }),
    figureRow('-ln p of the right answer', goldNll, { scale: 1, digits: 3 }),
  ];
}

type Figure = Pick<PairedDifference, 'a' | 'b' | 'difference'> & Partial<Pick<PairedDifference, 'interval' | 'pValue'>>;

function figureRow(
  name: string,
  { a, b, difference, interval, pValue }: Figure,
  { scale, digits }: { readonly scale: number; readonly digits: number },
): string[] {
  const show = (value: number) => (value * scale).toFixed(digits);
  const p = pValue === undefined ? '' : pValue < 0.001 ? '< 0.001' : pValue.toFixed(3);
  return [name, show(a), show(b), show(difference), interval?.map(show).join(' to ') ?? '', p];
}
