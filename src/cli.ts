#!/usr/bin/env node
import { EXIT_INTERRUPTED } from './cli/exit-codes.js';
import { needsSupervision, SUPERVISED, supervise } from './cli/supervise.js';
import { processTerminal } from './cli/terminal.js';
import type { Progress } from './progress.js';

const terminal = processTerminal();
const args = process.argv.slice(2);

process.exitCode = needsSupervision(args) ? await supervise(import.meta.url, args, terminal) : await run();

/** Runs the command in this process, told by a supervisor when to stop where there is one. */
async function run(): Promise<number> {
  const interruption = new AbortController();
  const isSupervised = process.env[SUPERVISED] !== undefined && process.send !== undefined;
  // Processes that this one starts have no supervisor.
  delete process.env[SUPERVISED];
  const interrupt = () => {
    if (interruption.signal.aborted) process.exit(EXIT_INTERRUPTED);
    interruption.abort();
    if (!isSupervised) terminal.err('\nStopping (Ctrl-C again quits at once)\n');
  };
  // A terminal sends Ctrl-C to both.
  process.on('SIGINT', isSupervised ? () => {} : interrupt);
  process.on('message', interrupt);
  process.on('disconnect', () => process.exit(EXIT_INTERRUPTED));
  process.channel?.unref();
  // The reader may leave early, as in `fang-prune ... | head`.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  const { runCli } = await import('./cli/run-cli.js');
  return runCli(args, {
    terminal,
    signal: interruption.signal,
    onProgress: isSupervised ? (progress: Progress) => process.send?.(progress) : () => {},
    loadApi: () => import('./node.js'),
  });
}
