import type { Command } from 'commander';
import { type Checked, checkOptions, type Families, rowsOf } from '../options/option.js';
import type { CallName } from '../pipeline/call-table.js';
import type { JobControl } from '../progress.js';
import type { CliApi } from './api.js';
import type { Prompts } from './ask.js';
import { declareFlags, inFlags, notesInFlags, readFlags } from './flags.js';
import { createProgressDisplay, silentDisplay } from './progress-display.js';
import type { Colors, Terminal } from './terminal.js';

/** Environment of a command. */
export interface CommandContext {
  readonly terminal: Terminal;
  /** Loaded on demand: `--help` need not wait for ONNX Runtime. */
  readonly loadApi: () => Promise<CliApi>;
  readonly signal: AbortSignal;
  /** Absent if no questions can be asked: input or output is not a terminal. */
  readonly loadPrompts?: (() => Promise<Prompts>) | undefined;
}

/** A command: its arguments, options, call and output. A request has the API's names, also for arguments. */
export interface CommandRow<Request, Result> {
  readonly name: string;
  /** Its call in the API; with several calls, the one whose options it lists. Absent: not a call of the API. */
  readonly call?: CallName | 'benchmark';
  readonly description: string;
  /** Help by argument, such as `<model>`. */
  readonly arguments: Readonly<Record<string, string>>;
  readonly families: Families;
  /** Example command lines, shortest first. */
  readonly examples: readonly string[];
  /** Checks combinations of options before the library is loaded. */
  check?(request: Checked<Request>): void;
  run(api: CliApi, request: Request & JobControl): Promise<Result>;
  format(result: Result, colors: Colors, request: Request): string;
}

interface OutputFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Adds a command: progress goes to stderr, the result to stdout, as JSON or text. */
export function addCommand(
  program: Command,
  { terminal, signal, loadApi }: CommandContext,
  { families, ...row }: CommandRow<object, unknown>,
): void {
  const command = program.command(row.name).description(row.description);
  for (const [name, help] of Object.entries(row.arguments)) command.argument(name, help);
  declareFlags(command, families);
  command
    .optionsGroup('Output:')
    .option('--json', 'print one JSON object on stdout')
    .option('--quiet', 'show no progress')
    .option('--verbose', 'show where an error came from')
    .option('--no-color', 'print without colours')
    .helpOption('-h, --help', 'show help')
    .addHelpText('after', `\nExamples:\n${row.examples.map((line) => `  npx fang-prune ${line}`).join('\n')}`);
  command.action(async () => {
    const { json, quiet } = command.opts<OutputFlags>();
    try {
      const given = { ...readArguments(command), ...readFlags(command, families) };
      const request = checkOptions(given, rowsOf(families) as never);
      row.check?.(request);
      const api = await loadApi();
      const display = quiet ? silentDisplay : createProgressDisplay(terminal);
      const result = await row.run(api, { ...request, onProgress: display.listener, signal }).finally(display.close);
      const text = json ? `${JSON.stringify(result)}\n` : row.format(result, terminal.colors, request);
      terminal.out(json ? text : notesInFlags(text, families));
    } catch (error) {
      throw inFlags(
        error,
        families,
        command.registeredArguments.map((argument) => argument.name()),
      );
    }
  });
}

function readArguments({ registeredArguments, processedArgs }: Command): Record<string, unknown> {
  return Object.fromEntries(registeredArguments.map((argument, at) => [argument.name(), processedArgs[at]]));
}
