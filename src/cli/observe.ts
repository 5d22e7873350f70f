import { type Command, Option } from 'commander';
import { definedOf } from '../defined-of.js';
import { METRICS } from '../importance/metrics.js';
import type { ObservedFolder, ObserveRequest } from '../node.js';
import { type ModuleSelection, PRUNE_DEFAULTS } from '../options.js';
import { type CalibrationFlags, calibrationOptions, withCalibrationOptions } from './calibration-flags.js';
import { type CommandContext, modelRequest, type SharedOptions, withSharedOptions } from './command-context.js';
import { formatBytes, formatDuration } from './format-quantity.js';
import { type GroupingFlags, groupingOptions, withGroupingOptions } from './grouping-flags.js';
import { parseCount } from './option-parsers.js';
import { runJob } from './run-job.js';
import type { Colors } from './terminal.js';

interface ObserveFlags extends SharedOptions, CalibrationFlags, GroupingFlags {
  readonly out: string;
  readonly method?: string;
  readonly modules?: ModuleSelection;
  readonly metric?: ObserveRequest['metric'];
  readonly batchSize?: number;
  readonly seed?: number;
  readonly force?: boolean;
}

/** Adds `observe <model>`. */
export function addObserveCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('observe')
    .description('look at a model once and keep what pruning reads of tokens, for prune --statistics')
    .argument('<model>', 'a folder in the transformers.js or genai layout, or an .onnx file')
    .requiredOption('-o, --out <path>', 'where the statistics go: a folder, or a path ending in .json')
    .option(
      '-m, --method <name>',
      `method that the statistics must do for (default ${PRUNE_DEFAULTS.method}); o-fang with --metric divergence: any`,
    )
    .addOption(
      new Option('--modules <kind>', 'what may go later (default: all that can be pruned)').choices([
        'ffn',
        'attention',
        'all',
      ]),
    )
    .addOption(
      new Option('--metric <name>', "what scores will measure errors in (default: the method's own)").choices(
        Object.keys(METRICS),
      ),
    )
    .option(
      '--batch-size <windows>',
      'windows that run through a block together (default: as many as make about 1024 tokens)',
      parseCount,
    )
    .option('--seed <number>', 'seed of everything random (default 0)', parseCount)
    .option('--force', 'replace statistics that exist');
  withSharedOptions(withGroupingOptions(withCalibrationOptions(command))).action(
    async (model: string, flags: ObserveFlags) => {
      const { observe } = await context.loadApi();
      await runJob(context, flags, {
        job: (control) => observe({ ...modelRequest(model, flags, control), ...lookOptions(flags) }),
        format: (result) => formatObserved(result, context.terminal.colors),
      });
    },
  );
}

function lookOptions(flags: ObserveFlags) {
  const { out, method, modules, metric, batchSize, seed, force } = flags;
  const said = definedOf({ method, modules, metric, batchSize, seed, force });
  return { out, ...said, ...groupingOptions(flags), calibration: calibrationOptions(flags) };
}

/** What was kept, for people. */
function formatObserved(found: ObservedFolder, colors: Colors): string {
  const { windowCount, windowLength } = found.calibration;
  const kept = [
    found.sums === 'gram' ? 'Gram matrices' : 'means and variances',
    ...(METRICS[found.metric].hasCurvature ? [`the curvature of the ${found.metric}`] : []),
    ...(found.grouped ? ['function groups'] : []),
  ];
  const elapsedMs = found.timings.reduce((sum, { ms }) => sum + ms, 0);
  return [
    `${colors.bold('Observed')} ${found.model} -> ${found.out} (${found.method}, seed ${found.seed})\n`,
    `${kept.join(', ')} of ${found.moduleCount} modules on ${windowCount} windows of ${windowLength} tokens, ${formatBytes(found.bytes)}\n`,
    ...found.remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
    colors.dim(`${formatDuration(elapsedMs)}\n`),
  ].join('');
}
