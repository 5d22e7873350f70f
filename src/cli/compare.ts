import type { Command } from 'commander';
import type { CompareRequest, ModelComparison } from '../node.js';
import { COMPARE } from '../options/commands.js';
import { type CommandContext, defineCommand } from './command.js';
import { formatComparisons } from './format-comparisons.js';

/** Adds `compare <files...>`. */
export function addCompareCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('compare')
    .description('tell whether two evaluations differ by more than noise')
    .argument('<files...>', 'what `eval --tasks FILE --json` printed, or its --resume files');
  defineCommand<CompareRequest, { readonly comparisons: readonly ModelComparison[] }>(command, context, {
    families: COMPARE,
    run: async (api, { onProgress, signal, ...request }) => ({ comparisons: await api.compareFiles(request) }),
    format: ({ comparisons }, colors) => formatComparisons(comparisons, colors),
  });
}
