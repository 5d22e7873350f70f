#!/usr/bin/env node
import { EXIT_INTERRUPTED } from './cli/exit-codes.js';
import { runCli } from './cli/run-cli.js';
import { processTerminal } from './cli/terminal.js';

const terminal = processTerminal();
const interruption = new AbortController();

/** Signals that stop a run, and the exit codes that shells report then. */
const STOPS = { SIGINT: EXIT_INTERRUPTED, SIGTERM: 143, SIGHUP: 129 } as const;
/** Time until a run that has not stopped is killed: senders of a signal wait a few seconds before they send a stronger one. */
const GRACE_PERIOD_MS = 1900;
let stopCode: number | undefined;

for (const [name, code] of Object.entries(STOPS)) {
  process.on(name, () => {
    if (interruption.signal.aborted) process.exit(code);
    stopCode = code;
    interruption.abort();
    // The terminal has printed `^C`.
    terminal.status?.draw('');
    terminal.status?.close();
    terminal.err(name === 'SIGINT' ? 'Stopping (Ctrl-C again quits at once)\n' : 'Stopping\n');
    setTimeout(() => process.exit(code), GRACE_PERIOD_MS).unref();
  });
}
// The reader may close the pipe early, as in `fang-prune ... | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

/** Whether questions can be asked. */
const isInteractive = process.stdin.isTTY === true && process.stdout.isTTY === true;

const exitCode = await runCli(process.argv.slice(2), {
  terminal,
  signal: interruption.signal,
  ...(isInteractive && { loadPrompts: async () => import('@clack/prompts') }),
  loadApi: async () => (await import('./cli/isolated-api.js')).isolatedApi,
});
process.exitCode = stopCode ?? exitCode;
