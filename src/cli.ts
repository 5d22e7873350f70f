#!/usr/bin/env node
import { EXIT_INTERRUPTED } from './cli/exit-codes.js';
import { runCli } from './cli/run-cli.js';
import { processTerminal } from './cli/terminal.js';

const terminal = processTerminal();
const interruption = new AbortController();

process.on('SIGINT', () => {
  if (interruption.signal.aborted) process.exit(EXIT_INTERRUPTED);
  interruption.abort();
  terminal.err('\nStopping (Ctrl-C again quits at once)\n');
});
// Whatever works for this process ends with it.
process.on('SIGTERM', () => process.exit(143));
process.on('SIGHUP', () => process.exit(129));
// The reader may leave early, as in `fang-prune ... | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await runCli(process.argv.slice(2), {
  terminal,
  signal: interruption.signal,
  loadApi: async () => (await import('./cli/isolated-api.js')).isolatedApi,
});
