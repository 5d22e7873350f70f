import type { Command } from 'commander';
import type { AppliedRecipe } from '../node.js';
import { type CommandContext, modelRequest, type SharedOptions, withSharedOptions } from './command-context.js';
import { formatBytes, formatCount } from './format-quantity.js';
import { runJob } from './run-job.js';
import type { Colors } from './terminal.js';

interface ApplyFlags extends SharedOptions {
  readonly out: string;
  readonly force?: boolean;
}

/** Adds `apply <recipe> <model>`. */
export function addApplyCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('apply')
    .description('prune a model as the run did that wrote a recipe')
    .argument('<recipe>', 'a folder with recipe.json, or such a file')
    .argument('<model>', 'the model that was pruned')
    .requiredOption('-o, --out <folder>', 'where the pruned model goes')
    .option('--force', 'write into a folder that is not empty');
  withSharedOptions(command).action(async (recipe: string, model: string, flags: ApplyFlags) => {
    const { applyRecipe } = await context.loadApi();
    const { out, force } = flags;
    await runJob(context, flags, {
      job: (control) =>
        applyRecipe({ ...modelRequest(model, flags, control), recipe, out, ...(force === undefined ? {} : { force }) }),
      format: (result) => formatApplied(result, context.terminal.colors),
    });
  });
}

function formatApplied({ model, out, sha256, parameters, bytes }: AppliedRecipe, colors: Colors): string {
  const sizes = [
    `parameters ${formatCount(parameters.before)} -> ${formatCount(parameters.after)}`,
    `bytes ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}`,
  ];
  return `${colors.bold('Pruned')} ${model} -> ${out} by recipe\n${sizes.join(', ')}\nSHA-256 ${sha256}\n`;
}
