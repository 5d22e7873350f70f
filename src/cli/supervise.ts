import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { bytesOfPaths, watchProcess } from '../node/watch-process.js';
import type { Progress } from '../progress.js';
import { EXIT_CODES, EXIT_INTERRUPTED } from './exit-codes.js';
import { printFailure } from './print-failure.js';
import type { Terminal } from './terminal.js';

/** In the environment of a process that runs a command for a supervisor. */
export const SUPERVISED = 'FANG_PRUNE_SUPERVISED';

/** Commands that run models, which may take their process with them. */
const ENGINE_COMMANDS: ReadonlySet<string> = new Set([
  'prune',
  'observe',
  'apply',
  'describe',
  'eval',
  'bench',
  'bias',
]);

/** Whether a command line is to be run in a process of its own. */
export function needsSupervision(args: readonly string[]): boolean {
  const [command = ''] = args;
  const isSupervised = process.env[SUPERVISED] !== undefined && process.send !== undefined;
  return !isSupervised && ENGINE_COMMANDS.has(command) && !args.some((arg) => arg === '--help' || arg === '-h');
}

/** What a supervisor tells its child, and hears of it. */
export type ToChild = 'interrupt';
export type FromChild = Progress;

/**
 * Runs the same command line in a child process under a watchdog. Ctrl-C goes to the child, the second one ends it; other
 * signals that end a process are passed on.
 * @param script what this process runs
 * @returns the exit code: the child's, or that of an EngineError where it died.
 */
export async function supervise(script: string, args: readonly string[], terminal: Terminal): Promise<number> {
  const child = fork(fileURLToPath(script), args, {
    env: { ...process.env, [SUPERVISED]: '1' },
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  let isInterrupted = false;
  let passedOn: NodeJS.Signals | undefined;
  process.on('SIGINT', () => {
    if (isInterrupted) child.kill('SIGKILL');
    else {
      child.send('interrupt' satisfies ToChild);
      terminal.err('\nStopping (Ctrl-C again quits at once)\n');
    }
    isInterrupted = true;
  });
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      passedOn = signal;
      child.kill(signal);
    });
  }
  const watched = watchProcess(child, bytesOfPaths(args.slice(1)));
  child.on('message', (progress: FromChild) => watched.heard(progress));
  const death = await watched.death;
  if (child.exitCode !== null) return child.exitCode;
  if (isInterrupted) return EXIT_INTERRUPTED;
  if (passedOn !== undefined) return passedOn === 'SIGTERM' ? 143 : 129;
  const message = `ONNX Runtime or a file that it was given ended the engine: its process ${death}. Nothing was written; check where the model comes from, or try another export`;
  return printFailure({ exitCode: EXIT_CODES.ERR_ENGINE, code: 'ERR_ENGINE', message }, args, terminal);
}
