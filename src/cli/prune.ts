import type { HealingReport } from '../healing/heal-model.js';
import type { LadderRequest, PrunePlan } from '../node.js';
import { LADDER } from '../options/commands.js';
import { resolveRequest } from '../options/request.js';
import { changeOf, describeChange } from '../report/describe-change.js';
import { formatDivergence, formatPerplexity } from '../report/format-figure.js';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatExactPercent,
  formatPercent,
} from '../report/format-quantity.js';
import type { CertificateReport, MetricReport, PruneReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatDtypes } from './format-dtypes.js';
import { formatModules } from './format-modules.js';
import { formatTable } from './format-table.js';
import { sayingHow } from './interrupted-error.js';
import { formatDone } from './next-steps.js';
import { formatLadder, type LadderResult } from './prune-ladder.js';
import { formatPlan } from './prune-plan.js';
import type { Colors } from './terminal.js';

/** `prune <model>` */
export const pruneCommand: CommandRow<LadderRequest, PruneReport | LadderResult | PrunePlan> = {
  name: 'prune',
  description: 'make a model smaller',
  arguments: { '<model>': 'a folder or an .onnx file' },
  families: LADDER,
  check: resolveRequest,
  async run(api, request) {
    const [sparsity, ...others] = request.sparsity;
    if (isForetold(request)) return api.plan(others.length === 0 ? { ...request, sparsity: sparsity! } : request);
    if (others.length === 0) return sayingHow(request, api.prune({ ...request, sparsity: sparsity! }));
    return { reports: await sayingHow(request, api.pruneLadder(request)) };
  },
  format(result, colors, request) {
    if ('stages' in result) return formatPlan(result, colors);
    return 'reports' in result ? formatLadder(result, colors, request) : formatPruneReport(result, colors, request);
  },
};

/** A dry run is foretold, unless something is asked for that only a whole run knows. */
const isForetold = ({ dryRun, report, recipe, statistics }: LadderRequest): boolean =>
  dryRun === true && typeof report !== 'string' && recipe === undefined && statistics === undefined;

/** A pruning report for people. */
export function formatPruneReport(
  report: PruneReport,
  colors: Colors,
  { report: place, evaluation }: Pick<LadderRequest, 'report' | 'evaluation'> = {},
): string {
  const { sparsity, parameters, bytes, metrics = [] } = report;
  const [target, removed] = report.out === undefined ? ['Would prune', 'Would remove'] : ['Pruned', 'Removed'];
  const where = report.out === undefined ? report.model : `${report.model} -> ${report.out}`;
  const elapsedMs = report.timings.reduce((sum, { ms }) => sum + ms, 0);
  const memory = report.peakMemoryBytes === undefined ? '' : `, ${formatBytes(report.peakMemoryBytes)} of memory`;
  return [
    `${colors.bold(target)} ${where} (${report.method}, seed ${report.seed})\n`,
    formatTable(
      [...words(''), ...numbers('before', 'after'), ...words('')],
      [
        sizeRow('parameters', parameters, formatCount),
        sizeRow('bytes', bytes, formatBytes),
        ...metrics.flatMap(perplexityRow),
      ],
    ),
    `${removed} ${formatPercent(sparsity.achieved)} of the prunable parameters (asked: ${formatExactPercent(sparsity.requested)}), ` +
      `${formatPercent(sparsity.ofAllParameters)} of all.\n`,
    formatModules(report.modules),
    ...formatDtypes(report),
    ...formatSamples(report, colors),
    ...formatCalibration(report),
    ...formatHealing(report.healing),
    ...formatCertificate(report.certificate),
    ...report.remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
    colors.dim(`${formatDuration(elapsedMs)}${memory}\n`),
    ...(report.out === undefined
      ? []
      : [formatDone({ out: report.out, report: place, next: nextOf(report, report.out, evaluation) }, colors)]),
  ].join('\n');
}

/** Quality is measured first, then speed. */
function nextOf({ model }: PruneReport, out: string, evaluation: LadderRequest['evaluation']): string[] {
  if (evaluation === undefined) return ['eval', model, out, '--text', 'YOUR-TEXT.txt', '--reference', model];
  return ['bench', model, out];
}

function formatSamples({ samples = [] }: PruneReport, colors: Colors): string[] {
  return samples.map(
    ({ prompt, dense, pruned }) =>
      `${colors.bold(prompt)}\n${colors.dim('dense ')} ${oneLine(dense)}\n${colors.dim('pruned')} ${oneLine(pruned)}\n`,
  );
}

const oneLine = (text: string): string => text.trim().replace(/\s*\n\s*/g, ' / ');

export function formatCalibration({ calibration }: PruneReport): string[] {
  const { generated, windowCount, windowLength } = calibration ?? {};
  if (generated === undefined) return [];
  const { windowCount: count, seed } = generated;
  return [
    `Measured on ${windowCount} windows of ${windowLength} tokens, ${count} of them written by the model (seed ${seed}).\n`,
  ];
}

/** How a pruned model learnt from the dense one. */
export function formatHealing(healing: HealingReport | undefined): string[] {
  if (healing === undefined) return [];
  const { windowCount, windowLength, divergence, keptStep, curve, stopped } = healing;
  const { before, after } = divergence;
  const taken = Math.max(...curve.map(({ step }) => step));
  return [
    `Healed on ${windowCount} windows of ${windowLength} tokens: the divergence from the dense model went from ` +
      `${formatDivergence(before)} to ${formatDivergence(after)} nats a token on held-out windows (step ${keptStep} of ${taken}${stopped ? ', cut off there' : ''}).\n`,
  ];
}

export function formatCertificate(certificate: CertificateReport | undefined): string[] {
  if (certificate === undefined) return [];
  const { gap, tokens, tolerance, opened } = certificate;
  const how = opened ? 'Checked' : 'Compared, but not opened (the installed ONNX Runtime does not run such models)';
  return [
    `${how}: computes what the masked original does, to ${gap.toExponential(1)} of the logits' range on ${tokens} tokens (at most ${tolerance.toExponential(1)}).\n`,
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
