import { counted } from '../counted.js';
import type { BenchmarkReport, LadderRequest, PrunePlan } from '../node.js';
import { LADDER } from '../options/commands.js';
import { boolean, fractionOf } from '../options/kinds.js';
import { PROVIDER } from '../options/model.js';
import { type Families, pickOptions, refusal, row } from '../options/option.js';
import { resolveRequest } from '../options/request.js';
import { CONTROL } from '../options/run.js';
import { nameRungs } from '../pipeline/ladder-rungs.js';
import type { JobControl } from '../progress.js';
import { addMeasurements } from '../report/add-measurements.js';
import { changeOf, describeChange } from '../report/describe-change.js';
import { describeQuality, qualityPerplexity } from '../report/describe-quality.js';
import { formatPerplexity } from '../report/format-figure.js';
import { formatBytes, formatCount, formatExactPercent, formatPercent } from '../report/format-quantity.js';
import type { CertificateReport, MetricReport, PruneReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import type { CliApi } from './api.js';
import { formatBenchmark } from './bench.js';
import type { CommandRow } from './command.js';
import { formatDtypes } from './format-dtypes.js';
import { formatHealing } from './format-healing.js';
import { formatModules } from './format-modules.js';
import { formatElapsed, formatNotes, formatSideFiles } from './format-run.js';
import { formatTable } from './format-table.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath, type Done, formatDone } from './next-steps.js';
import { formatLadder, type LadderResult } from './prune-ladder.js';
import { formatPlan } from './prune-plan.js';
import type { Colors } from './terminal.js';

interface PruneCommandRequest extends LadderRequest {
  readonly bench?: boolean;
}

/** Options of `prune`: those of the call, and `--bench`. */
export const PRUNE_COMMAND = {
  ...LADDER,
  Evaluation: {
    ...LADDER.Evaluation,
    bench: row('--bench', 'measure the speed of both models', {
      kind: boolean,
      default: false,
      common: true,
    }),
  },
} as const satisfies Families;

/** The report of a run, with a benchmark if requested. */
type PruneResult = (PruneReport | LadderResult) & { readonly benchmark?: BenchmarkReport };

/** `prune <model>` */
export const pruneCommand: CommandRow<PruneCommandRequest, PruneResult | PrunePlan> = {
  name: 'prune',
  call: 'prune',
  description: 'make a model smaller',
  arguments: { '<model>': 'a folder, an .onnx file, or org/name on the Hub' },
  families: PRUNE_COMMAND,
  examples: [
    'prune org/model --out smaller --sparsity 30%',
    'prune ./model --out smaller --sparsity 30% --heal --dtype q4',
    'prune ./model --out ladder --sparsity 20%,30% --bench',
  ],
  check({ bench, ...request }) {
    resolveRequest(request);
    if (bench && request.dryRun)
      throw refusal('bench', 'measures the written model, and a dryRun writes none; leave one of them out');
  },
  async run(api, { bench, ...request }) {
    const [sparsity, ...others] = request.sparsity;
    if (isEstimated(request)) return api.plan(others.length === 0 ? { ...request, sparsity: sparsity! } : request);
    const result =
      others.length === 0
        ? await withResumeHint(request, api.prune({ ...request, sparsity: sparsity! }))
        : { reports: await withResumeHint(request, api.pruneLadder(request)) };
    return bench ? addSpeed(api, request, result) : result;
  },
  format(result, colors, { bench: _, ...request }) {
    if ('stages' in result) return formatPlan(result, colors);
    const { benchmark, ...made } = result;
    const speed = benchmark === undefined ? [] : [formatBenchmark(benchmark, colors)];
    const text = 'reports' in made ? formatLadder(made, colors, request) : formatPruneReport(made, colors, request);
    return [...speed, text].join('\n');
  },
};

/** Times the dense model and all results, and adds the figures to their reports. */
async function addSpeed(
  api: CliApi,
  request: LadderRequest & JobControl,
  result: PruneReport | LadderResult,
): Promise<PruneResult> {
  const reports = 'reports' in result ? result.reports : [result];
  const models = [request.model, ...reports.flatMap(({ out }) => out ?? [])];
  const benchmark = await api.benchmark({ ...pickOptions(request, { ...PROVIDER, ...CONTROL }), models });
  const added: PruneReport[] = [];
  for (const [at, report] of reports.entries()) {
    const place = reportPath(request, report, 'reports' in result ? at : undefined);
    added.push(
      place === undefined
        ? addMeasurements(report, benchmark, 'the benchmark')
        : (await api.rebuildReport({ report: place, add: [benchmark] })).report,
    );
  }
  return { ...('reports' in result ? { reports: added } : added[0]!), benchmark };
}

/** Path of a result's report; undefined if none was written. @param rung index of the rung of a ladder */
function reportPath(
  { report: place, sparsity }: LadderRequest,
  { out }: PruneReport,
  rung: number | undefined,
): string | undefined {
  if (place === false) return undefined;
  if (typeof place !== 'string') return out;
  return rung === undefined
    ? place
    : place.replace(/\.json$/, `-${nameRungs(sparsity.map(fractionOf))[rung]!.name}.json`);
}

/** A dry run only estimates, unless a report, a recipe or statistics are requested. */
export const isEstimated = ({
  dryRun,
  report,
  recipe,
  statistics,
}: Pick<LadderRequest, 'dryRun' | 'report' | 'recipe' | 'statistics'>): boolean =>
  dryRun === true && typeof report !== 'string' && recipe === undefined && statistics === undefined;

/** A pruning report for people. */
export function formatPruneReport(
  report: PruneReport,
  colors: Colors,
  { report: place, evaluation }: Pick<LadderRequest, 'report' | 'evaluation'> = {},
): string {
  const { sparsity, parameters, bytes, quality, metrics = [] } = report;
  const measured = [...(quality === undefined ? [] : [qualityPerplexity(quality)]), ...metrics];
  const [target, removed] = report.out === undefined ? ['Would prune', 'Would remove'] : ['Pruned', 'Removed'];
  const where = report.out === undefined ? report.model : `${report.model} -> ${report.out}`;
  return [
    `${colors.bold(target)} ${where} (${report.method}, seed ${report.seed})\n`,
    formatTable(
      [...words(''), ...numbers('before', 'after'), ...words('')],
      [
        sizeRow('parameters', parameters, formatCount),
        sizeRow('bytes', bytes, formatBytes),
        ...measured.flatMap(perplexityRow),
      ],
    ),
    `${removed} ${formatPercent(sparsity.achieved)} of the prunable parameters (requested: ${formatExactPercent(sparsity.requested)}), ` +
      `${formatPercent(sparsity.ofAllParameters)} of all.\n`,
    formatModules(report.modules),
    ...formatDtypes(report),
    ...formatSamples(report, colors),
    ...formatOutcome(report, colors, {
      memory: report.peakMemoryBytes,
      report: place,
      next: (out) => nextOf(report, out, evaluation),
    }),
  ].join('\n');
}

type Outcome = Pick<
  PruneReport,
  'out' | 'calibration' | 'healing' | 'certificate' | 'quality' | 'sideFiles' | 'timings' | 'remarks'
>;

interface OutcomeOptions {
  /** Name of the written model. */
  readonly result?: string;
  /** Peak memory to show. */
  readonly memory?: number | undefined;
  readonly report: Done['report'];
  /** Arguments of the next command. */
  next(out: string): readonly string[];
}

/** Windows, checks, notes, quality and time of a run, and its written files. */
export function formatOutcome(
  outcome: Outcome,
  colors: Colors,
  { result, memory, report, next }: OutcomeOptions,
): string[] {
  const { out, healing, certificate, quality, sideFiles, timings, remarks } = outcome;
  return [
    ...formatCalibration(outcome),
    ...formatHealing(healing),
    ...formatCertificate(certificate),
    ...formatSideFiles(sideFiles),
    ...formatNotes(remarks, colors),
    ...(quality === undefined ? [] : [`${describeQuality(quality, result)}\n`]),
    formatElapsed(timings, colors, memory),
    ...(out === undefined ? [] : [formatDone({ out, report, next: next(out) }, colors)]),
  ];
}

/** Quality is measured first, then speed. */
function nextOf({ model }: PruneReport, out: string, evaluation: LadderRequest['evaluation']): string[] {
  const [dense, pruned] = [asPath(model), asPath(out)];
  if (typeof evaluation !== 'object') return ['eval', dense, pruned, '--text', 'YOUR-TEXT.txt', '--reference', dense];
  return ['bench', dense, pruned];
}

function formatSamples({ samples = [] }: PruneReport, colors: Colors): string[] {
  return samples.map(
    ({ prompt, dense, pruned }) =>
      `${colors.bold(prompt)}\n${colors.dim('dense ')} ${oneLine(dense)}\n${colors.dim('pruned')} ${oneLine(pruned)}\n`,
  );
}

const oneLine = (text: string): string => text.trim().replace(/\s*\n\s*/g, ' / ');

function formatCalibration({ calibration }: Pick<PruneReport, 'calibration'>): string[] {
  const { generated, windowCount = 0, windowLength, leadingTokens = [] } = calibration ?? {};
  if (generated === undefined && leadingTokens.length === 0) return [];
  const written = generated && `, ${generated.windowCount} of them generated by the model (seed ${generated.seed})`;
  const prefix =
    leadingTokens.length === 0
      ? ''
      : ` Each begins with ${leadingTokens.join(' ')}, which the tokenizer adds before a text (BOS).`;
  return [`Measured on ${counted(windowCount, 'window')} of ${windowLength} tokens${written ?? ''}.${prefix}\n`];
}

function formatCertificate(certificate: CertificateReport | undefined): string[] {
  if (certificate === undefined) return [];
  const { gap, tokens, tolerance, opened } = certificate;
  const how = opened ? 'Checked' : 'Compared, but not opened (see the notes)';
  return [
    `${how}: equals the masked original to ${gap.toExponential(1)} of the logits' range on ${tokens} tokens (at most ${tolerance.toExponential(1)}).\n`,
  ];
}

function sizeRow(name: string, size: { before: number; after: number }, format: (value: number) => string) {
  return [name, format(size.before), format(size.after), size.before === size.after ? '' : changeOf(size)];
}

function perplexityRow(metric: MetricReport): string[][] {
  const { kind, name, dense, pruned } = metric;
  if (kind !== 'perplexity' || dense === undefined) return [];
  return [[`perplexity, ${name}`, formatPerplexity(dense), formatPerplexity(pruned), describeChange(metric)]];
}
