import type { ReportRequest, WrittenReport } from '../node.js';
import { REPORT } from '../options/commands.js';
import { comparedRunRows } from '../report/compared-runs.js';
import { formatFigure } from '../report/format-figure.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatTable } from './format-table.js';

/** `report <report>` */
export const reportCommand: CommandRow<ReportRequest, WrittenReport> = {
  name: 'report',
  call: 'rebuildReport',
  description: 'add measurements or other runs to a report, and write its page again',
  arguments: { '<report>': "a pruned model's folder, or a report's .json file" },
  families: REPORT,
  examples: [
    'report ./smaller --add bench.json',
    'report ./smaller --add eval.json --add bias.json',
    'report ./smaller --beside ./other --out beside.json',
  ],
  run: (api, request) => api.rebuildReport(request),
  format: (written) => [...formatComparedRuns(written), ...written.files.map((file) => `Wrote ${file}\n`)].join(''),
};

/** Runs as a table: a row per figure, a column per run. */
function formatComparedRuns({ report: { beside = [] } }: WrittenReport): string[] {
  if (beside.length === 0) return [];
  const rows = comparedRunRows(beside, (metric) => formatFigure(metric, 'pruned')).map(({ name, cells }) => [
    name,
    ...cells,
  ]);
  return [`${formatTable([...words(''), ...numbers(...beside.map(({ name }) => name))], rows)}\n`];
}
