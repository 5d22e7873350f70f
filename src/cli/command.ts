import type { Command } from 'commander';
import { checkOptions, type Families, rowsOf } from '../options/option.js';
import type { CallName } from '../pipeline/call-table.js';
import type { JobControl } from '../progress.js';
import type { CliApi } from './api.js';
import type { Prompts } from './ask.js';
import { declareFlags, inFlags, notesInFlags, readFlags } from './flags.js';
import { createProgressDisplay, silentDisplay } from './progress-display.js';
import type { Colors, Terminal } from './terminal.js';

/** Context that a command gets from its caller. */
export interface CommandContext {
  readonly terminal: Terminal;
  /** Loaded on demand: `--help` need not wait for ONNX Runtime. */
  readonly loadApi: () => Promise<CliApi>;
  readonly signal: AbortSignal;
  /** Absent where no questions can be asked: input or output is not a terminal. */
  readonly loadPrompts?: (() => Promise<Prompts>) | undefined;
}

/** A command and what it does. A request has the API's names, arguments too. */
export interface CommandRow<Request, Result> {
  readonly name: string;
  /** The call that it makes, of several the one that its options are listed under; absent: it is no call of its own. */
  readonly call?: CallName | 'benchmark';
  readonly description: string;
  /** Help by argument, such as `<model>`. */
  readonly arguments: Readonly<Record<string, string>>;
  readonly families: Families;
  /** Command lines that show what it is for, shortest first. */
  readonly examples: readonly string[];
  /** Refuses more than single rows do, before the library is loaded. */
  check?(request: Request): void;
  run(api: CliApi, request: Request & JobControl): Promise<Result>;
  format(result: Result, colors: Colors, request: Request): string;
}

interface OutputFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Adds a command with its flags and what it does: progress on stderr, the result on stdout, as JSON or for people. */
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
      const request = { ...readArguments(command), ...readFlags(command, families) };
      checkOptions(request, rowsOf(families) as never);
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
