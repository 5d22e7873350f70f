import type { StageTiming } from '../prune/job.js';
import { formatBytes, formatDuration } from '../report/format-quantity.js';
import type { SideFilesReport } from '../report/report-schema.js';
import type { Colors } from './terminal.js';

/** Largest number of file names in a line. */
const MAX_NAMES = 6;

/** Lists copied and uncopied files next to the model. */
export function formatSideFiles(sideFiles: SideFilesReport | undefined): string[] {
  if (sideFiles === undefined) return [];
  const { copied, left = [], leftCount } = sideFiles;
  const lines = [
    ...(copied.length === 0 ? [] : [`Copied next to it: ${nameSome(copied, copied.length)}.`]),
    ...(leftCount === 0 ? [] : [`Not copied: ${nameSome(left, leftCount)}.`]),
  ];
  return lines.length === 0 ? [] : [`${lines.join('\n')}\n`];
}

function nameSome(names: readonly string[], count: number): string {
  const shown = names.slice(0, MAX_NAMES);
  const rest = count - shown.length;
  if (shown.length === 0) return `${count} ${count === 1 ? 'file or folder' : 'files and folders'}`;
  return rest === 0 ? shown.join(', ') : `${shown.join(', ')} and ${rest} more`;
}

export const formatNotes = (remarks: readonly string[], colors: Colors): string[] =>
  remarks.map((remark) => `${colors.yellow('note:')} ${remark}\n`);

/** Time of a run, and its memory if given. */
export function formatElapsed(timings: readonly StageTiming[], colors: Colors, peakMemoryBytes?: number): string {
  const memory = peakMemoryBytes === undefined ? '' : `, ${formatBytes(peakMemoryBytes)} of memory`;
  return colors.dim(`${formatDuration(timings.reduce((sum, { ms }) => sum + ms, 0))}${memory}\n`);
}
