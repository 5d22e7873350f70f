import type { Command } from 'commander';
import type { WrittenReport } from '../node.js';
import { type CommandContext, type SharedOptions, withOutputOptions } from './command-context.js';
import { collect } from './option-parsers.js';
import { runJob } from './run-job.js';

interface ReportFlags extends SharedOptions {
  readonly add?: readonly string[];
  readonly out?: string;
}

/** Adds `report <report>`. */
export function addReportCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('report')
    .description("draw a report's page again, with measurements added")
    .argument('<report>', "a pruned model's folder, or a report's .json file")
    .option('-a, --add <file>', "what 'eval', 'bench' or 'bias' printed with '--json'; may be repeated", collect)
    .option('-o, --out <file>', 'where the result goes, ending in .json (default: in place)');
  withOutputOptions(command).action(async (report: string, flags: ReportFlags) => {
    const { rebuildReport } = await context.loadApi();
    await runJob(context, flags, {
      job: () => rebuildReport({ report, ...(flags.add && { add: flags.add }), ...(flags.out && { out: flags.out }) }),
      format: formatWritten,
    });
  });
}

function formatWritten({ files }: WrittenReport): string {
  return files.map((file) => `Wrote ${file}\n`).join('');
}
