import { createColors } from 'picocolors';
import { printable } from '../printable.js';
import { createStatusLine, type StatusLine } from './status-line.js';

export type Colors = ReturnType<typeof createColors>;

/** Output of a command: results to `out`, everything else to `err`. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Shows progress; absent if stderr is a file or a pipe. */
  readonly status?: StatusLine;
  readonly colors: Colors;
  readonly now: () => number;
}

/**
 * The terminal of this process. Colours follow NO_COLOR, FORCE_COLOR and `--no-color`. Other control characters, which names
 * in models and texts may contain, are escaped.
 */
export function processTerminal(): Terminal {
  const { stdout, stderr } = process;
  const isColored = wantsColor(stdout.isTTY);
  const show = isColored ? printableInColor : printable;
  const status = stderr.isTTY ? createStatusLine(stderr) : undefined;
  // Show the cursor again, however the process ends.
  if (status !== undefined) process.on('exit', status.close);
  const writeTo = (stream: NodeJS.WriteStream) => (text: string) => {
    status?.clear();
    stream.write(show(text));
  };
  return {
    out: writeTo(stdout),
    err: writeTo(stderr),
    ...(status && { status }),
    colors: createColors(isColored),
    now: () => performance.now(),
  };
}

function wantsColor(isTty: boolean): boolean {
  if (process.env.NO_COLOR || process.argv.includes('--no-color')) return false;
  return Boolean(process.env.FORCE_COLOR) || (isTty && process.env.TERM !== 'dumb');
}

/** Escape sequences of picocolors; the group keeps them when text is split. */
const COLORS = new RegExp(`(${String.fromCharCode(0x1b)}\\[\\d{1,2}m)`);

function printableInColor(text: string): string {
  return text
    .split(COLORS)
    .map((part, at) => (at % 2 === 1 ? part : printable(part)))
    .join('');
}
