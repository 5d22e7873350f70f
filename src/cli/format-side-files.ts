import type { SideFilesReport } from '../report/report-schema.js';

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
