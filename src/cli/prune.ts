import { type Command, Option } from 'commander';
import { ALLOCATIONS } from '../allocation/allocations.js';
import type { ModuleKind } from '../architecture/layout.js';
import { FLUCTUATION_METRICS } from '../importance/fluctuation.js';
import { METRICS } from '../importance/metrics.js';
import type { HeadUnit, ModuleSelection, PruneOptions } from '../options.js';
import { PRUNE_DEFAULTS } from '../options.js';
import type { MetricReport, ModuleReport, PruneReport } from '../report/report-schema.js';
import { type CalibrationFlags, calibrationOptions, withCalibrationOptions } from './calibration-flags.js';
import { type CommandContext, modelRequest, type SharedOptions, withSharedOptions } from './command-context.js';
import { formatBytes, formatCount, formatDuration, formatPercent } from './format-quantity.js';
import { formatTable } from './format-table.js';
import { groupBlocks } from './group-blocks.js';
import { type GroupingFlags, groupingOptions, withGroupingOptions } from './grouping-flags.js';
import {
  collect,
  parseBlockSparsity,
  parseCount,
  parseFraction,
  parseFractions,
  parseIndices,
  parseNumber,
} from './option-parsers.js';
import { formatLadder, type LadderResult } from './prune-ladder.js';
import { runJob } from './run-job.js';
import type { Colors } from './terminal.js';

interface PruneFlags extends SharedOptions, CalibrationFlags, GroupingFlags {
  readonly out?: string;
  readonly sparsity: readonly number[];
  readonly text?: readonly string[];
  readonly textWindows?: number;
  readonly method?: string;
  readonly modules?: ModuleSelection;
  readonly headUnit?: HeadUnit;
  readonly allocation?: PruneOptions['allocation'];
  readonly metric?: PruneOptions['metric'];
  readonly dampening?: number;
  readonly inputSteps?: number;
  readonly fluctuation?: PruneOptions['fluctuation'];
  readonly widthMultiple?: number;
  readonly minimumWidth?: number;
  readonly shots?: number;
  readonly skipBlocks?: readonly number[];
  readonly blockSparsity?: PruneOptions['blockSparsity'];
  readonly perBlockKvHeads?: boolean;
  readonly batchSize?: number;
  readonly seed?: number;
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly report?: string | boolean;
  readonly quotes: boolean;
  readonly recipe?: string;
  readonly statistics?: string;
  readonly certify: boolean;
}

/** Adds `prune <model>`. */
export function addPruneCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('prune')
    .description('make a model smaller')
    .argument('<model>', 'a folder in the transformers.js or genai layout, or an .onnx file')
    .option('-o, --out <folder>', 'where the pruned model goes')
    .requiredOption(
      '-s, --sparsity <fraction>',
      'prunable parameters to remove, such as 0.3 or 30%; several make a ladder: 0.1,0.2,0.3',
      parseFractions,
    )
    .option('-t, --text <file>', 'text to measure perplexity on, before and after; may be repeated', collect)
    .option(
      '--text-windows <count>',
      'windows of 512 tokens to measure, from the start of each text (default all)',
      parseCount,
    )
    .option('-m, --method <name>', `how neurons and heads are scored and repaired (default ${PRUNE_DEFAULTS.method})`)
    .addOption(
      new Option('--modules <kind>', 'what may go (default: all that can be pruned)').choices([
        'ffn',
        'attention',
        'all',
      ]),
    )
    .addOption(
      new Option('--head-unit <unit>', 'grouped-query attention: whole KV groups or query heads').choices([
        'group',
        'query',
      ]),
    )
    .addOption(
      new Option(
        '--allocation <rule>',
        "how the sparsity is spread over the blocks (default: the method's own)",
      ).choices(Object.keys(ALLOCATIONS)),
    )
    .addOption(
      new Option('--metric <name>', "what scores measure errors in (default: the method's own)").choices(
        Object.keys(METRICS),
      ),
    )
    .option(
      '--dampening <fraction>',
      "what is added to the Hessian's diagonal, as a fraction of its mean (default: the method's own)",
      parseNumber,
    )
    .addOption(
      new Option('--fluctuation <score>', 'what flap and f-fang score channels by (default WIFV)').choices(
        Object.keys(FLUCTUATION_METRICS),
      ),
    )
    .option('--width-multiple <count>', 'keep FFN widths at multiples of this', parseCount)
    .option('--minimum-width <fraction>', 'neurons that every FFN keeps under --allocation global', parseFraction)
    .option('--shots <count>', 'rounds that reach the sparsity together (default 1)', parseCount)
    .option(
      '--input-steps <count>',
      "steps that repair the maps into FFNs that lost neurons (default: the method's own)",
      parseCount,
    )
    .option('--skip-blocks <indices>', 'blocks that stay whole, such as 0,1', parseIndices)
    .option(
      '--block-sparsity <list>',
      'sparsity of single blocks, such as 3=0.5,4.ffn=20%; the others share the rest',
      parseBlockSparsity,
    )
    .option('--per-block-kv-heads', 'let KV head counts differ between blocks, which not every runtime takes')
    .option(
      '--batch-size <windows>',
      'windows that run through a block together (default: as many as make about 1024 tokens)',
      parseCount,
    )
    .option('--seed <number>', 'seed of everything random (default 0)', parseCount)
    .option('--force', 'write into a folder that is not empty')
    .option('--dry-run', 'report what would be removed; write nothing')
    .option('--report <file>', 'where the report goes, ending in .json (default: beside the pruned model)')
    .option('--no-report', 'write no report')
    .option('--no-quotes', 'quote no calibration text in the report')
    .option('--recipe <path>', 'write what was decided into this folder or .json file, for apply')
    .option('--statistics <path>', 'prune from what observe kept of the model, without running it on text again')
    .option('--no-certify', 'do not compare what was written with the masked original');
  withSharedOptions(withGroupingOptions(withCalibrationOptions(command))).action(
    async (model: string, flags: PruneFlags) => {
      if (flags.out === undefined && !flags.dryRun) {
        command.error("error: say where the pruned model goes with '--out FOLDER', or add '--dry-run'");
      }
      const [sparsity] = flags.sparsity;
      const isLadder = flags.sparsity.length > 1;
      if (flags.text === undefined && flags.textWindows !== undefined) {
        command.error("error: '--text-windows' says how much of a text is measured; name the text with '--text'");
      }
      const api = await context.loadApi();
      const { colors } = context.terminal;
      if (isLadder) {
        await runJob(context, flags, {
          job: async (control): Promise<LadderResult> => ({
            reports: await api.pruneLadder({
              ...modelRequest(model, flags, control),
              ...pruneOptions(flags),
              sparsity: flags.sparsity,
            }),
          }),
          format: (result) => formatLadder(result, colors),
        });
        return;
      }
      await runJob(context, flags, {
        job: (control) =>
          api.prune({ ...modelRequest(model, flags, control), ...pruneOptions(flags), sparsity: sparsity! }),
        format: (report) => formatPruneReport(report, colors),
      });
    },
  );
}

const PASSED_ON = [
  'out',
  'method',
  'modules',
  'headUnit',
  'allocation',
  'metric',
  'dampening',
  'fluctuation',
  'widthMultiple',
  'minimumWidth',
  'shots',
  'inputSteps',
  'skipBlocks',
  'blockSparsity',
  'perBlockKvHeads',
  'batchSize',
  'seed',
  'force',
  'dryRun',
  'report',
  'recipe',
  'statistics',
] as const satisfies readonly (keyof PruneFlags)[];

function pruneOptions(flags: PruneFlags) {
  const given = Object.fromEntries(
    PASSED_ON.filter((name) => flags[name] !== undefined).map((name) => [name, flags[name]]),
  );
  return {
    ...given,
    ...groupingOptions(flags),
    calibration: calibrationOptions(flags),
    ...(flags.quotes ? {} : { quoteText: false }),
    ...(flags.certify ? {} : { certify: false }),
    ...evaluationOptions(flags),
  };
}

function evaluationOptions({ text: texts, textWindows: windowCount }: PruneFlags) {
  if (texts === undefined) return {};
  return { evaluation: { texts, ...(windowCount === undefined ? {} : { windowCount }) } };
}

/** A pruning report for people. */
export function formatPruneReport(report: PruneReport, colors: Colors): string {
  const { sparsity, parameters, bytes, metrics = [] } = report;
  const target = report.out === undefined ? 'Would prune' : 'Pruned';
  const where = report.out === undefined ? report.model : `${report.model} -> ${report.out}`;
  const elapsedMs = report.timings.reduce((sum, { ms }) => sum + ms, 0);
  const memory = report.peakMemoryBytes === undefined ? '' : `, ${formatBytes(report.peakMemoryBytes)} of memory`;
  return [
    `${colors.bold(target)} ${where} (${report.method}, seed ${report.seed})\n`,
    formatTable(
      [{ heading: '' }, { heading: 'before', numeric: true }, { heading: 'after', numeric: true }, { heading: '' }],
      [
        sizeRow('parameters', parameters, formatCount),
        sizeRow('bytes', bytes, formatBytes),
        ...metrics.flatMap(perplexityRow),
      ],
    ),
    `Removed ${formatPercent(sparsity.achieved)} of the prunable parameters (asked: ${formatPercent(sparsity.requested)}), ` +
      `${formatPercent(sparsity.ofAllParameters)} of all.\n`,
    formatModules(report.modules),
    ...formatCalibration(report),
    ...formatCertificate(report),
    ...report.remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
    colors.dim(`${formatDuration(elapsedMs)}${memory}\n`),
  ].join('\n');
}

function formatCalibration({ calibration }: PruneReport): string[] {
  const { generated, windowCount, windowLength } = calibration ?? {};
  if (generated === undefined) return [];
  const { windowCount: count, seed } = generated;
  return [
    `Measured on ${windowCount} windows of ${windowLength} tokens, ${count} of them written by the model (seed ${seed}).\n`,
  ];
}

function formatCertificate({ certificate }: PruneReport): string[] {
  if (certificate === undefined) return [];
  const { gap, tokens, tolerance, opened } = certificate;
  const how = opened ? 'Checked' : 'Compared, but not opened (the installed ONNX Runtime does not run such models)';
  return [
    `${how}: computes what the masked original does, to ${gap.toExponential(1)} of the logits' range on ${tokens} tokens (at most ${tolerance.toExponential(1)}).\n`,
  ];
}

function sizeRow(name: string, size: { before: number; after: number }, format: (value: number) => string) {
  const change = size.before === 0 ? 0 : size.after / size.before - 1;
  return [
    name,
    format(size.before),
    format(size.after),
    change === 0 ? '' : `${change > 0 ? '+' : ''}${formatPercent(change)}`,
  ];
}

function perplexityRow({ kind, name, dense, pruned }: MetricReport): string[][] {
  if (kind !== 'perplexity' || dense === undefined) return [];
  return [sizeRow(`perplexity, ${name}`, { before: dense, after: pruned }, (value) => value.toFixed(3))];
}

function formatModules(modules: readonly ModuleReport[]): string {
  const kinds = [...new Set(modules.map(({ kind }) => kind))];
  const blocks = [...new Set(modules.map(({ block }) => block))];
  const cell = (block: number, kind: string) => {
    const found = modules.find((module) => module.block === block && module.kind === kind);
    return found ? `${found.unitsBefore} -> ${found.unitsAfter}` : '';
  };
  const runs = groupBlocks(
    blocks,
    blocks.map((block) => kinds.map((kind) => cell(block, kind))),
  );
  return formatTable(
    [{ heading: 'block' }, ...kinds.map((kind) => ({ heading: UNIT_HEADINGS[kind], numeric: true }))],
    runs.map(({ name, look }) => [name, ...look]),
  );
}

const UNIT_HEADINGS = { ffn: 'ffn neurons', attention: 'attention heads' } as const satisfies Record<
  ModuleKind,
  string
>;
