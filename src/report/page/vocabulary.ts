import { describeTrimmingCost } from '../describe-vocabulary.js';
import { formatBytes } from '../format-quantity.js';
import type { PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';

/** Section about the trimmed vocabulary and its cost. */
export function vocabularySection({ vocabulary }: PruneReport): HTMLElement | undefined {
  if (vocabulary === undefined) return undefined;
  const { rows, reasons, tables } = vocabulary;
  const { always, text, chosen, parts } = reasons;
  return section(
    'vocabulary',
    'Vocabulary',
    h(
      'p',
      {},
      `${rows.after} of ${rows.before} rows remain: ${chosen} by languages, rank or list, ${text} of the text, ${parts} that others are ` +
        `merged from, ${always} that always remain. ${describeTrimmingCost(vocabulary)} ` +
        'All other losses on this page compare the result with the model of this vocabulary.',
    ),
    table(
      'Tables that were cut',
      [...words('table'), ...numbers('rows', 'left', 'bytes', 'left')],
      tables.map(({ name, rows: rowCounts, bytes }) => [
        name,
        String(rowCounts.before),
        String(rowCounts.after),
        formatBytes(bytes.before),
        formatBytes(bytes.after),
      ]),
    ),
  );
}
