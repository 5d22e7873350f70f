import type { ReportRequest, WrittenReport } from '../node.js';
import { REPORT } from '../options/commands.js';
import type { CommandRow } from './command.js';

/** `report <report>` */
export const reportCommand: CommandRow<ReportRequest, WrittenReport> = {
  name: 'report',
  description: "draw a report's page again, with measurements added",
  arguments: { '<report>': "a pruned model's folder, or a report's .json file" },
  families: REPORT,
  run: (api, { onProgress, signal, ...request }) => api.rebuildReport(request),
  format: ({ files }) => files.map((file) => `Wrote ${file}\n`).join(''),
};
