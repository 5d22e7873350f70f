import { Command, CommanderError } from 'commander';
import { REMOVED_FLAGS } from '../options/removed.js';
import { printableMessage } from '../printable.js';
import { VERSION } from '../version.js';
import { applyCommand } from './apply.js';
import { askForCommand } from './ask.js';
import { benchCommand } from './bench.js';
import { biasCommand } from './bias.js';
import { chooseCommand } from './choose.js';
import { addCommand, type CommandContext, type CommandRow } from './command.js';
import { compareCommand } from './compare.js';
import { describeCommand } from './describe.js';
import { evalCommand } from './eval.js';
import { EXIT_INTERRUPTED, EXIT_OK, EXIT_UNEXPECTED, EXIT_USAGE, exitCodeOf } from './exit-codes.js';
import { healCommand } from './heal.js';
import { InterruptedError } from './interrupted-error.js';
import { mergeCommand } from './merge.js';
import { observeCommand } from './observe.js';
import { pruneCommand } from './prune.js';
import { pushCommand } from './push.js';
import { quantizeCommand } from './quantize.js';
import { reportCommand } from './report.js';
import { shrinkCommand } from './shrink.js';
import { trimVocabularyCommand } from './trim-vocabulary.js';

/** In the order of the help. */
export const COMMANDS: readonly CommandRow<object, unknown>[] = [
  pruneCommand,
  quantizeCommand,
  shrinkCommand,
  chooseCommand,
  observeCommand,
  mergeCommand,
  applyCommand,
  healCommand,
  trimVocabularyCommand,
  describeCommand,
  evalCommand,
  compareCommand,
  benchCommand,
  biasCommand,
  reportCommand,
  pushCommand,
];

/** Runs one command line (without `node` and the script) and resolves to the exit code; never throws. Without arguments it asks questions. */
export async function runCli(args: readonly string[], context: CommandContext): Promise<number> {
  try {
    const { loadPrompts, terminal } = context;
    const isBare = args.length === 0 && loadPrompts !== undefined;
    const chosen = isBare ? await askForCommand(await loadPrompts(), terminal) : args;
    if (chosen === undefined) return EXIT_OK;
    await buildProgram(context).parseAsync([...chosen], { from: 'user' });
    return EXIT_OK;
  } catch (error) {
    return report(error, args, context);
  }
}

function buildProgram(context: CommandContext): Command {
  const { out, err } = context.terminal;
  const program = new Command('fang-prune')
    .description('Make large language models in ONNX really smaller, without retraining.')
    .version(VERSION)
    .addHelpText(
      'after',
      '\nA model is a folder, an .onnx file, or org/name on the Hugging Face Hub.\n' +
        'In a terminal, fang-prune without a command asks for everything it needs.\n\nExamples:\n' +
        [
          'prune HuggingFaceTB/SmolLM2-135M-Instruct --out smaller --sparsity 30%',
          'eval HuggingFaceTB/SmolLM2-135M-Instruct smaller --text my-test.txt',
          'push smaller me/smaller --create',
        ]
          .map((line) => `  npx fang-prune ${line}`)
          .join('\n'),
    )
    .configureOutput({ writeOut: out, writeErr: err, outputError: () => {} })
    .exitOverride();
  for (const row of COMMANDS) addCommand(program, context, row);
  return program;
}

interface Explanation {
  readonly exitCode: number;
  readonly code: string;
  readonly message: string;
}

function report(error: unknown, args: readonly string[], { terminal, signal }: CommandContext): number {
  if (error instanceof CommanderError && error.exitCode === 0) return EXIT_OK;
  // Without a command, help goes to stderr.
  if (error instanceof CommanderError && error.code === 'commander.help') return EXIT_USAGE;
  const { exitCode, code, message } = explain(error, signal);
  terminal.err(`${terminal.colors.red('fang-prune:')} ${message}\n`);
  if (args.includes('--verbose') && error instanceof Error) terminal.err(`${stackOf(error)}\n`);
  if (args.includes('--json')) terminal.out(`${JSON.stringify({ error: { code, message } })}\n`);
  return exitCode;
}

function explain(error: unknown, signal: AbortSignal): Explanation {
  if (signal.aborted) {
    const message = error instanceof InterruptedError ? error.message : 'interrupted; nothing was written';
    return { exitCode: EXIT_INTERRUPTED, code: 'ERR_INTERRUPTED', message };
  }
  const text = oneLine(error instanceof Error ? error.message : String(error));
  if (error instanceof CommanderError) {
    const message = `${printableMessage(usage(text))} (add '--help' for the options)`;
    return { exitCode: EXIT_USAGE, code: 'ERR_USAGE', message };
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'ERR_UNEXPECTED';
  const exitCode = exitCodeOf(code);
  if (exitCode !== EXIT_UNEXPECTED) return { exitCode, code, message: text };
  return { exitCode, code, message: `unexpected error: ${text} (add '--verbose' for a stack trace)` };
}

/** Messages of commander about a command line, in the style of the other messages. */
const usage = (text: string): string =>
  text
    .replace(/^error: /, '')
    .replace(/^option '(?:-\w, )?(--[\w-]+) (<[^']+>)' argument missing$/, '$1 is missing its value: $2')
    .replace(/^missing required argument '(.+)'$/, '<$1> is missing')
    .replace(/^unknown option '(--[\w-]+)'.*$/, (unknown, flag: string) =>
      Object.hasOwn(REMOVED_FLAGS, flag) ? `${flag} was removed: ${REMOVED_FLAGS[flag]}` : unknown,
    );

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').trim();
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}
