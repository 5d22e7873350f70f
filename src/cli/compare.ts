import type { Command } from 'commander';
import { type CommandContext, type SharedOptions, withOutputOptions } from './command-context.js';
import { formatComparisons } from './format-comparisons.js';
import { parseCount, parseFraction } from './option-parsers.js';
import { runJob } from './run-job.js';

interface CompareFlags extends SharedOptions {
  readonly confidence?: number;
  readonly resamples?: number;
  readonly seed?: number;
}

/** Adds `compare <files...>`. */
export function addCompareCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('compare')
    .description('tell whether two evaluations differ by more than noise')
    .argument('<files...>', 'what `eval --tasks FILE --json` printed, or its --resume files')
    .option('--confidence <fraction>', 'of the interval, such as 0.95 or 95% (default 0.95)', parseFraction)
    .option('--resamples <count>', 'bootstrap draws (default 10000)', parseCount)
    .option('--seed <number>', 'seed of the bootstrap (default 0)', parseCount);
  withOutputOptions(command).action(async (files: readonly string[], flags: CompareFlags) => {
    const { compareFiles } = await context.loadApi();
    await runJob(context, flags, {
      job: async () => ({
        comparisons: await compareFiles({
          files,
          ...(flags.confidence !== undefined && { confidence: flags.confidence }),
          ...(flags.resamples !== undefined && { resampleCount: flags.resamples }),
          ...(flags.seed !== undefined && { seed: flags.seed }),
        }),
      }),
      format: ({ comparisons }) => formatComparisons(comparisons, context.terminal.colors),
    });
  });
}
