import type { Command } from 'commander';
import { checkOptions, type Families, rowsOf } from '../options/option.js';
import type { JobControl } from '../progress.js';
import type { CliApi } from './api.js';
import { declareFlags, inFlags, readFlags } from './flags.js';
import { createProgressDisplay, silentDisplay } from './progress-display.js';
import type { Colors, Terminal } from './terminal.js';

/** What a command gets from whoever runs it. */
export interface CommandContext {
  readonly terminal: Terminal;
  /** Loaded on demand: `--help` need not wait for ONNX Runtime. */
  readonly loadApi: () => Promise<CliApi>;
  readonly signal: AbortSignal;
}

/** What a command does. A request has the API's names, arguments too. */
export interface CommandTask<Request, Result> {
  readonly families: Families;
  /** Refuses more than single rows do, before the library is loaded. */
  check?(request: Request): void;
  run(api: CliApi, request: Request & JobControl): Promise<Result>;
  format(result: Result, colors: Colors): string;
}

interface OutputFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Gives a command its flags and what it does: progress on stderr, the result on stdout, as JSON or for people. */
export function defineCommand<Request extends object, Result>(
  command: Command,
  { terminal, signal, loadApi }: CommandContext,
  { families, check, run, format }: CommandTask<Request, Result>,
): void {
  declareFlags(command, families);
  command
    .optionsGroup('Output:')
    .option('--json', 'print one JSON object on stdout')
    .option('--quiet', 'show no progress')
    .option('--verbose', 'show where an error came from')
    .option('--no-color', 'print without colours')
    .helpOption('-h, --help', 'show help');
  command.action(async () => {
    const { json, quiet } = command.opts<OutputFlags>();
    try {
      const request = { ...readArguments(command), ...readFlags(command, families) } as Request;
      checkOptions(request, rowsOf(families) as never);
      check?.(request);
      const api = await loadApi();
      const display = quiet ? silentDisplay : createProgressDisplay(terminal);
      const result = await run(api, { ...request, onProgress: display.listener, signal }).finally(display.close);
      terminal.out(json ? `${JSON.stringify(result)}\n` : format(result, terminal.colors));
    } catch (error) {
      throw inFlags(error, families);
    }
  });
}

function readArguments({ registeredArguments, processedArgs }: Command): Record<string, unknown> {
  return Object.fromEntries(registeredArguments.map((argument, at) => [argument.name(), processedArgs[at]]));
}
