import type { Command } from 'commander';
import type { ReportRequest, WrittenReport } from '../node.js';
import { REPORT } from '../options/commands.js';
import { type CommandContext, defineCommand } from './command.js';

/** Adds `report <report>`. */
export function addReportCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('report')
    .description("draw a report's page again, with measurements added")
    .argument('<report>', "a pruned model's folder, or a report's .json file");
  defineCommand<ReportRequest, WrittenReport>(command, context, {
    families: REPORT,
    run: (api, { onProgress, signal, ...request }) => api.rebuildReport(request),
    format: ({ files }) => files.map((file) => `Wrote ${file}\n`).join(''),
  });
}
