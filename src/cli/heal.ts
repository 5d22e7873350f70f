import type { Command } from 'commander';
import type { HealedFolder, HealRequest } from '../node.js';
import { HEAL } from '../options/commands.js';
import { type CommandContext, defineCommand } from './command.js';
import { formatBytes, formatDuration } from './format-quantity.js';
import { formatCertificate, formatHealing } from './prune.js';
import type { Colors } from './terminal.js';

/** Adds `heal <dense> <pruned>`. */
export function addHealCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('heal')
    .description('train a pruned model on what the dense one predicts')
    .argument('<dense>', 'the model that was pruned')
    .argument('<pruned>', 'what became of it');
  defineCommand<HealRequest, HealedFolder>(command, context, {
    families: HEAL,
    run: (api, request) => api.heal(request),
    format: formatHealed,
  });
}

function formatHealed(healed: HealedFolder, colors: Colors): string {
  const { pruned, out, healing, certificate, timings, remarks, peakMemoryBytes } = healed;
  const memory = peakMemoryBytes === undefined ? '' : `, ${formatBytes(peakMemoryBytes)} of memory`;
  return [
    `${colors.bold('Healed')} ${pruned} -> ${out}\n`,
    ...formatHealing(healing),
    ...formatCertificate(certificate),
    ...remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
    colors.dim(`${formatDuration(timings.reduce((sum, { ms }) => sum + ms, 0))}${memory}\n`),
  ].join('\n');
}
