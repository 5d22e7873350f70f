import { counted } from '../counted.js';
import type { MergedStatistics, MergeRequest } from '../node.js';
import { MERGE } from '../options/commands.js';
import { formatBytes } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatNotes } from './format-run.js';
import { asPath, formatDone } from './next-steps.js';
import type { Colors } from './terminal.js';

/** `merge <shards...>` */
export const mergeCommand: CommandRow<MergeRequest, MergedStatistics> = {
  name: 'merge',
  call: 'mergeStatistics',
  description: 'merge statistics that observe --shard measured on several machines, for prune --statistics',
  arguments: { '<shards...>': 'folders or .json files that observe --shard wrote: all shards of one observation' },
  families: MERGE,
  examples: ['merge shard-1 shard-2 shard-3 shard-4 --out statistics'],
  run: (api, request) => api.mergeStatistics(request),
  format: formatMerged,
};

function formatMerged(
  { out, shardCount, moduleCount, windowCount, bytes, remarks }: MergedStatistics,
  colors: Colors,
): string {
  const next = ['prune', 'YOUR-MODEL', '--out', 'SMALLER', '--sparsity', '30%', '--statistics', asPath(out)];
  return [
    `${colors.bold('Merged')} ${counted(shardCount, 'shard')} -> ${out}\n`,
    `${counted(moduleCount, 'module')} on ${counted(windowCount, 'window')}, ${formatBytes(bytes)}\n`,
    ...formatNotes(remarks, colors),
    formatDone({ out, report: false, next }, colors),
  ].join('');
}
