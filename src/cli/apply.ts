import type { Command } from 'commander';
import type { AppliedRecipe, ApplyRequest } from '../node.js';
import { APPLY } from '../options/commands.js';
import { type CommandContext, defineCommand } from './command.js';
import { formatBytes, formatCount } from './format-quantity.js';
import type { Colors } from './terminal.js';

/** Adds `apply <recipe> <model>`. */
export function addApplyCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('apply')
    .description('prune a model as the run did that wrote a recipe')
    .argument('<recipe>', 'a folder with recipe.json, or such a file')
    .argument('<model>', 'the model that was pruned');
  defineCommand<ApplyRequest, AppliedRecipe>(command, context, {
    families: APPLY,
    run: (api, request) => api.applyRecipe(request),
    format: formatApplied,
  });
}

function formatApplied({ model, out, sha256, parameters, bytes }: AppliedRecipe, colors: Colors): string {
  const sizes = [
    `parameters ${formatCount(parameters.before)} -> ${formatCount(parameters.after)}`,
    `bytes ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}`,
  ];
  return `${colors.bold('Pruned')} ${model} -> ${out} by recipe\n${sizes.join(', ')}\nSHA-256 ${sha256}\n`;
}
