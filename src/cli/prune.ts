import type { ModuleKind } from '../architecture/layout.js';
import type { HealingReport } from '../healing/heal-model.js';
import type { LadderRequest } from '../node.js';
import { LADDER } from '../options/commands.js';
import { resolveRequest } from '../options/request.js';
import { formatBytes, formatCount, formatDuration, formatPercent } from '../report/format-quantity.js';
import type { CertificateReport, MetricReport, ModuleReport, PruneReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatDtypes } from './format-dtypes.js';
import { formatTable } from './format-table.js';
import { groupBlocks } from './group-blocks.js';
import { sayingHow } from './interrupted-error.js';
import { formatLadder, type LadderResult } from './prune-ladder.js';
import type { Colors } from './terminal.js';

/** `prune <model>` */
export const pruneCommand: CommandRow<LadderRequest, PruneReport | LadderResult> = {
  name: 'prune',
  description: 'make a model smaller',
  arguments: { '<model>': 'a folder or an .onnx file' },
  families: LADDER,
  check: resolveRequest,
  async run(api, request) {
    const [sparsity, ...others] = request.sparsity;
    if (others.length === 0) return sayingHow(request, api.prune({ ...request, sparsity: sparsity! }));
    return { reports: await sayingHow(request, api.pruneLadder(request)) };
  },
  format: (result, colors) => ('reports' in result ? formatLadder(result, colors) : formatPruneReport(result, colors)),
};

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
      [...words(''), ...numbers('before', 'after'), ...words('')],
      [
        sizeRow('parameters', parameters, formatCount),
        sizeRow('bytes', bytes, formatBytes),
        ...metrics.flatMap(perplexityRow),
      ],
    ),
    `Removed ${formatPercent(sparsity.achieved)} of the prunable parameters (asked: ${formatPercent(sparsity.requested)}), ` +
      `${formatPercent(sparsity.ofAllParameters)} of all.\n`,
    formatModules(report.modules),
    ...formatDtypes(report),
    ...formatCalibration(report),
    ...formatHealing(report.healing),
    ...formatCertificate(report.certificate),
    ...report.remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
    colors.dim(`${formatDuration(elapsedMs)}${memory}\n`),
  ].join('\n');
}

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
      `${before.toFixed(3)} to ${after.toFixed(3)} nats a token on held-out windows (step ${keptStep} of ${taken}${stopped ? ', cut off there' : ''}).\n`,
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
    [...words('block'), ...numbers(...kinds.map((kind) => UNIT_HEADINGS[kind]))],
    runs.map(({ name, look }) => [name, ...look]),
  );
}

const UNIT_HEADINGS = { ffn: 'ffn neurons', attention: 'attention heads' } as const satisfies Record<
  ModuleKind,
  string
>;
