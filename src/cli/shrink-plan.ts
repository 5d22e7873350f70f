import type { PlannedSize, ShrinkPlan } from '../node.js';
import { describeDtypeCounts } from '../report/describe-size.js';
import { formatDivergence } from '../report/format-figure.js';
import { formatBytes, formatPercent } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import { formatTable } from './format-table.js';
import { describeMemory, describeTime } from './prune-plan.js';
import type { Colors } from './terminal.js';
import { formatRows } from './trim-vocabulary.js';

/** Reachable sizes of a model. */
export function formatShrinkPlan(plan: ShrinkPlan, colors: Colors): string {
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
    ...remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
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
  const rows = candidates.map(({ kind, maps, sparsity, bytes, predicted: { pruning, quantising } }, at) => [
    at === 0 ? '*' : '',
    kind,
    describeDtypeCounts({ maps }),
    formatPercent(sparsity),
    formatBytes(bytes),
    formatDivergence(pruning),
    formatDivergence(quantising),
    formatDivergence(pruning + quantising),
  ]);
  const columns = numbers('removed', 'bytes', 'pruning', 'rounding', 'divergence');
  return `${line}\n${formatTable([...words('', 'predicted', 'weights'), ...columns], rows)}`;
}
