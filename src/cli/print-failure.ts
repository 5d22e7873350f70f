import type { Terminal } from './terminal.js';

/** How a command failed. */
export interface Failure {
  readonly exitCode: number;
  readonly code: string;
  readonly message: string;
}

/** Prints what went wrong, as JSON too where that was asked for. @returns the exit code. */
export function printFailure(
  { exitCode, code, message }: Failure,
  args: readonly string[],
  terminal: Terminal,
  error?: unknown,
): number {
  terminal.err(`${terminal.colors.red('fang-prune:')} ${message}\n`);
  if (args.includes('--verbose') && error instanceof Error) terminal.err(`${stackOf(error)}\n`);
  if (args.includes('--json')) terminal.out(`${JSON.stringify({ error: { code, message } })}\n`);
  return exitCode;
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}
