import { counted } from '../counted.js';
import type { PrunePlan } from '../node.js';
import { changeOf } from '../report/describe-change.js';
import { formatBytes, formatCount, formatDuration, formatExactPercent } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import { formatModules } from './format-modules.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** The results that a run would make. */
export function formatPlan(
  { model, method, allocation, results, remarks, ...plan }: PrunePlan,
  colors: Colors,
): string {
  const [first] = results;
  const dtypes = first?.dtypes?.map(({ dtype }) => dtype) ?? [];
  const sizes = results.map(({ sparsity, parameters, bytes, dtypes: written }) => [
    formatExactPercent(sparsity.requested),
    formatCount(parameters.after),
    changeOf(parameters),
    ...(written === undefined ? [formatBytes(bytes.after)] : written.map((one) => formatBytes(one.bytes))),
  ]);
  const columns = ['parameters', '', ...(dtypes.length > 0 ? dtypes.map((name) => `bytes, ${name}`) : ['bytes'])];
  return [
    `${colors.bold('Would prune')} ${model} (${method}, allocation ${allocation}): ` +
      `${formatCount(first?.parameters.before ?? 0)} parameters, ${formatBytes(first?.bytes.before ?? 0)}\n`,
    formatTable([...words('sparsity'), ...numbers(...columns)], sizes),
    ...results.flatMap(({ widths }) => (widths === undefined ? [] : [formatModules(widths)])),
    ...(first?.widths === undefined
      ? ['Sizes assume uniform pruning; a run measures how much to remove from each block.\n']
      : []),
    ...remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`),
    describeTime(plan, colors) + describeRoom(plan),
  ].join('\n');
}

/** Memory and disk space of a run. */
export function describeRoom({ memoryBytes, scratchBytes }: Pick<PrunePlan, 'memoryBytes' | 'scratchBytes'>): string {
  const disk =
    scratchBytes === 0 ? '' : `, and temporarily up to ${formatBytes(scratchBytes)} of disk next to the output`;
  return `It would take about ${formatBytes(memoryBytes)} of memory${disk}.\n`;
}

/** How long a run takes. */
export function describeTime(
  { ms, stages, calibration }: Pick<PrunePlan, 'ms' | 'stages' | 'calibration'>,
  colors: Colors,
) {
  const longest = stages.filter((stage) => stage.ms > ms / 20);
  const parts = longest.map((stage) => `${stage.stage} ${formatDuration(stage.ms)}`).join(', ');
  const { windowCount = 0, windowLength, writtenCount = 0 } = calibration ?? {};
  const written = writtenCount === 0 ? '' : `, ${writtenCount} of them written by the model`;
  const on =
    calibration === undefined ? '' : `, on ${counted(windowCount, 'window')} of ${windowLength} tokens${written}`;
  return `It would take about ${colors.bold(formatDuration(ms))} here${on} (${parts}).\n`;
}
