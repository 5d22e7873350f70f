import type { Command } from 'commander';
import type { PruneReport, QuantizeRequest } from '../node.js';
import { QUANTIZE } from '../options/commands.js';
import { resolveQuantisation } from '../options/quantisation.js';
import { type CommandContext, defineCommand } from './command.js';
import { formatDtypes } from './format-dtypes.js';
import { formatBytes, formatDuration } from './format-quantity.js';
import { formatCalibration, formatCertificate } from './prune.js';
import type { Colors } from './terminal.js';

/** Adds `quantize <model>`. */
export function addQuantizeCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('quantize')
    .description('write a model in other dtypes, with nothing removed')
    .argument('<model>', 'a folder or an .onnx file');
  defineCommand<QuantizeRequest, PruneReport>(command, context, {
    families: QUANTIZE,
    check: resolveQuantisation,
    run: (api, request) => api.quantize(request),
    format: formatQuantized,
  });
}

/** What was written, for people. */
function formatQuantized(report: PruneReport, colors: Colors): string {
  const { bytes, timings, remarks, out, model } = report;
  const elapsedMs = timings.reduce((sum, { ms }) => sum + ms, 0);
  return [
    `${colors.bold(out === undefined ? 'Would quantise' : 'Quantised')} ${out === undefined ? model : `${model} -> ${out}`} (${formatBytes(bytes.before)} before)\n`,
    ...formatDtypes(report),
    ...formatCalibration(report),
    ...formatCertificate(report),
    ...remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
    colors.dim(`${formatDuration(elapsedMs)}\n`),
  ].join('\n');
}
