import type { TrimmedVocabulary, TrimVocabularyRequest, VocabularyReport } from '../node.js';
import { TRIM_VOCABULARY } from '../options/commands.js';
import { formatBytes, formatCount, formatPercent } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatElapsed, formatNotes, formatSideFiles } from './format-run.js';
import { formatTable } from './format-table.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath, formatDone } from './next-steps.js';
import type { Colors } from './terminal.js';

/** `trim-vocabulary <model>` */
export const trimVocabularyCommand: CommandRow<TrimVocabularyRequest, TrimmedVocabulary> = {
  name: 'trim-vocabulary',
  call: 'trimVocabulary',
  description: 'remove tokens from the vocabulary, by languages, rank or a list',
  arguments: { '<model>': 'a folder, an .onnx file, or org/name on the Hub' },
  families: TRIM_VOCABULARY,
  examples: [
    'trim-vocabulary org/model --out smaller --keep-languages en,code',
    'trim-vocabulary ./model --out smaller --vocabulary-size 64000 --text my.txt',
    'trim-vocabulary ./model --keep-languages en,de --dry-run',
  ],
  run: (api, request) => withResumeHint(request, api.trimVocabulary(request)),
  format: formatTrimmed,
};

/** The trimmed vocabulary, for people. */
export function formatTrimmed(trimmed: TrimmedVocabulary, colors: Colors): string {
  const { model, out, bytes, sideFiles, timings, remarks } = trimmed;
  const heading =
    out === undefined ? `${colors.bold('Would trim')} ${model}` : `${colors.bold('Trimmed')} ${model} -> ${out}`;
  return [
    `${heading}\n${formatRows(trimmed)}bytes ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}\n`,
    formatTables(trimmed),
    ...formatCertificate(trimmed),
    ...formatSideFiles(sideFiles),
    ...formatNotes(remarks, colors),
    formatElapsed(timings, colors),
    ...(out === undefined
      ? []
      : [
          formatDone(
            { out, report: false, next: ['eval', asPath(model), asPath(out), '--text', 'YOUR-TEXT.txt'] },
            colors,
          ),
        ]),
  ].join('\n');
}

/** Remaining tokens by reason. */
export function formatRows({ rows, reasons, merges }: VocabularyReport): string {
  const { always, text, chosen, parts } = reasons;
  const counts = [
    `${chosen} by languages, rank or list`,
    ...(text > 0 ? [`${text} of the text`] : []),
    `${parts} that others are merged from`,
    `${always} that always remain`,
  ];
  const removed = rows.before === 0 ? 0 : 1 - rows.after / rows.before;
  const merged = merges === undefined ? '' : `${formatCount(merges.before)} -> ${formatCount(merges.after)} merges\n`;
  return `${rows.before} -> ${rows.after} rows of the vocabulary (${formatPercent(removed)} removed): ${counts.join(', ')}\n${merged}`;
}

const formatTables = ({ tables }: VocabularyReport): string =>
  formatTable(
    [...words('table'), ...numbers('rows', 'left', 'bytes', 'left')],
    tables.map((table) => [
      table.name,
      String(table.rows.before),
      String(table.rows.after),
      formatBytes(table.bytes.before),
      formatBytes(table.bytes.after),
    ]),
  );

/** Result of the comparison of logits. */
export function formatCertificate({ certificate }: Pick<TrimmedVocabulary, 'certificate'>): string[] {
  if (certificate === undefined) return [];
  const { tokens, equal, gap } = certificate;
  const found = equal
    ? 'equal those of the original bit for bit'
    : `differ from those of the original by up to ${gap.toExponential(1)} of their range`;
  return [`Checked on ${tokens} tokens: logits of the remaining tokens ${found}.\n`];
}
