import { REPORT_NAME } from '../storage/write-report.js';
import type { Colors } from './terminal.js';

/** Results of a run, with commands for the next steps. */
export interface Done {
  /** The folder that was written, or a file that ends in `.json`. */
  readonly out: string;
  /** Value of `--report`, if given; false for none. */
  readonly report: string | boolean | undefined;
  /** Arguments of the next command. */
  readonly next: readonly string[];
}

/** Paths of the results, and a next command. */
export function formatDone({ out, report, next }: Done, colors: Colors): string {
  const page = pageOf(out, report);
  const lines = [
    [out.endsWith('.json') ? 'file' : 'folder', out],
    ...(page === undefined ? [] : [['report', page]]),
    ['next', commandLine(next)],
  ];
  return lines.map(([name, value]) => `${colors.dim(name!.padEnd(6))}  ${value}\n`).join('');
}

function pageOf(folder: string, report: Done['report']): string | undefined {
  if (report === false) return undefined;
  return typeof report === 'string'
    ? report.replace(/\.json$/, '.html')
    : `${folder.replace(/[\\/]+$/, '')}/${REPORT_NAME}.html`;
}

/** A path as an argument: one that begins with a dash would be read as a flag. */
export const asPath = (path: string): string => (path.startsWith('-') ? `./${path}` : path);

/** A command as it is typed in a shell. */
export function commandLine(args: readonly string[]): string {
  return ['npx', 'fang-prune', ...args].map(quoted).join(' ');
}

function quoted(word: string): string {
  return /^[\w@%+=:,./\\-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
