import { describeTrimmingCost } from '../describe-vocabulary.js';
import { formatBytes } from '../format-quantity.js';
import type { PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';

/** Which tokens went before all else, and what that costs by itself. */
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
      `${rows.after} of ${rows.before} rows stay: ${chosen} by languages, rank or list, ${text} of the text, ${parts} that others are ` +
        `merged from, ${always} that always stay. ${describeTrimmingCost(vocabulary)} ` +
        'All other losses of this page compare the result with the model of this vocabulary.',
    ),
    table(
      'Tables that were cut',
      [...words('table'), ...numbers('rows', 'left', 'bytes', 'left')],
      tables.map(({ name, rows: own, bytes }) => [
        name,
        String(own.before),
        String(own.after),
        formatBytes(bytes.before),
        formatBytes(bytes.after),
      ]),
    ),
  );
}
