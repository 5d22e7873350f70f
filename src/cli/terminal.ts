import { createColors } from 'picocolors';

export type Colors = ReturnType<typeof createColors>;

/** Where a command writes: results to `out`, everything else to `err`. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Draws progress bars there; absent when stderr is a file or a pipe, which gets sparse lines instead. */
  readonly errStream?: NodeJS.WriteStream;
  readonly colors: Colors;
  readonly now: () => number;
}

/** The terminal this process was started in. Colours follow NO_COLOR, FORCE_COLOR and `--no-color`. */
export function processTerminal(): Terminal {
  const { stdout, stderr } = process;
  return {
    out: (text) => stdout.write(text),
    err: (text) => stderr.write(text),
    ...(stderr.isTTY ? { errStream: stderr } : {}),
    colors: createColors(wantsColor(stdout.isTTY)),
    now: () => performance.now(),
  };
}

function wantsColor(isTty: boolean): boolean {
  if (process.env.NO_COLOR || process.argv.includes('--no-color')) return false;
  return Boolean(process.env.FORCE_COLOR) || (isTty && process.env.TERM !== 'dumb');
}
