import type { PlannedSize, PlanShrinkRequest, PruneReport, ShrinkPlan, ShrinkReports, ShrinkRequest } from '../node.js';
import { PLAN_SHRINK } from '../options/commands.js';
import { refusal } from '../options/option.js';
import { resolveShrink } from '../options/shrink.js';
import { describeDtypeCounts, describeTarget } from '../report/describe-size.js';
import { describeTrimmingCost } from '../report/describe-vocabulary.js';
import { formatDivergence } from '../report/format-figure.js';
import { formatBytes, formatPercent } from '../report/format-quantity.js';
import type { SizeCandidateReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatNotes } from './format-run.js';
import { formatTable } from './format-table.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath } from './next-steps.js';
import { formatOutcome } from './prune.js';
import { describeMemory, describeTime } from './prune-plan.js';
import type { Colors } from './terminal.js';
import { formatRows, formatCertificate as formatTrimmed } from './trim-vocabulary.js';

/** A report for each size. */
interface ShrinkResult {
  readonly reports: ShrinkReports;
}

interface ShrinkCommandRequest extends PlanShrinkRequest, Pick<ShrinkRequest, 'dryRun'> {}

/** `shrink <model>` */
export const shrinkCommand: CommandRow<ShrinkCommandRequest, ShrinkResult | ShrinkPlan> = {
  name: 'shrink',
  call: 'shrink',
  description: 'fit a model into a size: fewer neurons, heads and bits, and on request a smaller vocabulary',
  arguments: { '<model>': 'a folder, an .onnx file, or org/name on the Hub' },
  families: PLAN_SHRINK,
  examples: [
    'shrink org/model --out small --target-size 60MB --text mine.txt',
    'shrink ./model --out small --target-size 60MB,80MB --dtypes q8,q4,q2',
    'shrink ./model --out small --target-size 60MB --heal',
    'shrink ./model --out small --target-size 60MB --keep-languages en,code',
    'shrink ./model --dry-run',
  ],
  check(request) {
    resolveShrink(request, isEstimated(request));
    if (request.statistics !== undefined && !isEstimated(request))
      throw refusal('statistics', 'has an effect only in a dryRun without report, which estimates; leave it out');
  },
  async run(api, { dryRun, ...request }) {
    const planRequest = oneOrSeveral(request);
    if (isEstimated({ ...request, dryRun })) return api.planShrink(planRequest);
    const { statistics: _, ...shrunk } = planRequest;
    const run = api.shrink({ ...shrunk, ...(dryRun !== undefined && { dryRun }) });
    return { reports: await withResumeHint(request, run) };
  },
  format(result, colors, request) {
    if ('smallest' in result) return formatShrinkPlan(result, colors);
    return result.reports.map((report) => formatShrunk(report, colors, request)).join('\n');
  },
};

/** A dry run only estimates, unless a report or a recipe is requested. */
const isEstimated = ({ dryRun, report, recipe }: ShrinkCommandRequest): boolean =>
  dryRun === true && typeof report !== 'string' && recipe === undefined;

/** A list of one size becomes a single size. */
function oneOrSeveral<Request extends PlanShrinkRequest>(request: Request): Request {
  const option = request.targetMemory === undefined ? 'targetSize' : 'targetMemory';
  const [only, ...others] = [request[option] ?? []].flat();
  if (only === undefined) return request;
  return others.length === 0 ? { ...request, [option]: only } : request;
}

/** Candidates and files of a size, for people. */
function formatShrunk(report: PruneReport, colors: Colors, { report: place }: Pick<ShrinkRequest, 'report'>): string {
  const { bytes, size, out, model } = report;
  const heading =
    out === undefined ? `${colors.bold('Would shrink')} ${model}` : `${colors.bold('Shrank')} ${model} -> ${out}`;
  return [
    `${heading}\nbytes ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}${size ? ` (requested: at most ${describeTarget(size)})` : ''}\n`,
    ...formatVocabulary(report),
    ...(size ? [formatCandidates(size.candidates)] : []),
    ...formatOutcome(report, colors, {
      result: 'smaller',
      report: place,
      next: (folder) => ['bench', asPath(model), asPath(folder)],
    }),
  ].join('\n');
}

/** Result of trimming the vocabulary, with its cost. */
function formatVocabulary({ vocabulary }: PruneReport): string[] {
  if (vocabulary === undefined) return [];
  return [`${formatRows(vocabulary)}${describeTrimmingCost(vocabulary)}`, ...formatTrimmed(vocabulary)];
}

/** Measured candidates and the chosen one. */
function formatCandidates(candidates: readonly SizeCandidateReport[]): string {
  return tabulateCandidates(
    'candidate',
    [...candidates].sort((a, b) => b.bytes - a.bytes),
  );
}

function tabulateCandidates(title: string, candidates: readonly Omit<SizeCandidateReport, 'predicted'>[]): string {
  const rows = candidates.map(({ kind, maps, bytes, sparsity, divergence: { pruning, quantising }, chosen }) => [
    chosen ? '*' : '',
    kind,
    describeDtypeCounts({ maps }),
    formatPercent(sparsity),
    formatBytes(bytes),
    formatDivergence(pruning),
    formatDivergence(quantising),
    formatDivergence(pruning + quantising),
  ]);
  const columns = numbers('removed', 'bytes', 'pruning', 'rounding', 'divergence');
  return formatTable([...words('', title, 'weights'), ...columns], rows);
}

/** Reachable sizes of a model. */
function formatShrinkPlan(plan: ShrinkPlan, colors: Colors): string {
  const { model, bytes, smallest, dtypes, sizes, vocabulary, remarks } = plan;
  const binds = smallest.binds.map((part) => `${part.name} ${formatBytes(part.bytes)}`).join(', ');
  return [
    `${colors.bold('Would shrink')} ${model}: ${formatBytes(bytes)}\n`,
    ...(vocabulary === undefined ? [] : [formatRows(vocabulary)]),
    formatTable(
      [...words('all units in'), ...numbers('bytes')],
      [
        ...dtypes.map((each) => [each.dtype, formatBytes(each.bytes)]),
        ['smallest possible', formatBytes(smallest.bytes)],
      ],
    ),
    `Parts of the smallest size that cannot be reduced further: ${binds}.\n`,
    ...sizes.map(formatSize),
    ...formatNotes(remarks, colors),
    describeTime(plan, colors) + describeMemory(plan),
  ].join('\n');
}

/** Units to remove for a size, with predicted costs from statistics. */
function formatSize({ target, removed, candidates }: PlannedSize): string {
  const ways = Object.entries(removed).map(([dtype, share]) =>
    share === 0 ? `${dtype} fits unpruned` : `${dtype} without ${formatPercent(share)} of the prunable parameters`,
  );
  const line = `${formatBytes(target)}: ${ways.length === 0 ? 'no dtype alone fits' : ways.join(', ')}.\n`;
  if (candidates === undefined) return line;
  const rows = candidates.map(({ predicted, ...rest }, at) => ({ ...rest, divergence: predicted, chosen: at === 0 }));
  return `${line}\n${tabulateCandidates('predicted', rows)}`;
}
