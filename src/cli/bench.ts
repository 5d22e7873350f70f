import type { Command } from 'commander';
import type { Spread } from '../evaluation/speed.js';
import type { BenchmarkReport, ModelSpeed } from '../node.js';
import { type CommandContext, type SharedOptions, withSharedOptions } from './command-context.js';
import { formatBytes, formatDuration } from './format-quantity.js';
import { formatTable } from './format-table.js';
import { parseCount } from './option-parsers.js';
import { runJob } from './run-job.js';
import type { Colors } from './terminal.js';

interface BenchFlags extends SharedOptions {
  readonly promptLength?: number;
  readonly newTokens?: number;
  readonly rounds?: number;
  readonly probe?: boolean;
}

/** Adds `bench <models...>`. */
export function addBenchCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('bench')
    .description('measure speed and memory, models side by side, each in a process of its own')
    .argument('<models...>', 'folders or .onnx files; the others are compared with the first')
    .option('--prompt-length <tokens>', 'tokens to read (default 128)', parseCount)
    .option('--new-tokens <count>', 'tokens to write after them (default 32)', parseCount)
    .option('--rounds <count>', 'rounds in which every model takes its turn (default 7)', parseCount)
    .option('--no-probe', 'do not time neighbouring FFN widths');
  withSharedOptions(command).action(async (models: string[], flags: BenchFlags) => {
    const { benchmark } = await context.loadApi();
    await runJob(context, flags, {
      job: (control) =>
        benchmark({
          models,
          ...control,
          ...(flags.embeddings && { embeddings: flags.embeddings }),
          ...(flags.executionProvider && { executionProvider: flags.executionProvider }),
          ...(flags.promptLength !== undefined && { promptLength: flags.promptLength }),
          ...(flags.newTokens !== undefined && { newTokens: flags.newTokens }),
          ...(flags.rounds !== undefined && { rounds: flags.rounds }),
          ...(flags.probe === false && { probe: false }),
        }),
      format: (report) => formatBenchmark(report, context.terminal.colors),
    });
  });
}

/** A benchmark for people: a row a figure, a column a model; then what it comes to. */
export function formatBenchmark(report: BenchmarkReport, colors: Colors): string {
  const { machine, promptLength, newTokens, rounds, models, comparisons } = report;
  const columns = [{ heading: '' }, ...models.map(({ model }) => ({ heading: model, numeric: true }))];
  const rows = ROWS.map(({ name, cell }) => [name, ...models.map(cell)]);
  return [
    formatTable(columns, rows),
    ...comparisons.map(
      ({ model, reference, summary }) =>
        `${colors.bold(model)} beside ${reference}\n${summary.map((sentence) => `  ${sentence}\n`).join('')}`,
    ),
    colors.dim(
      `${promptLength} tokens read, ${newTokens} written, median and quartiles of ${rounds} rounds; ` +
        `${machine.processor}, ${machine.cores} cores, Node.js ${machine.node}\n`,
    ),
  ].join('\n');
}

const ROWS: readonly { readonly name: string; readonly cell: (speed: ModelSpeed) => string }[] = [
  { name: 'read, tokens/s', cell: ({ prefillTokensPerSecond }) => formatSpread(prefillTokensPerSecond) },
  { name: 'write, tokens/s', cell: ({ decodeTokensPerSecond }) => formatSpread(decodeTokensPerSecond) },
  { name: 'load', cell: ({ loadMs }) => formatDuration(loadMs.median) },
  { name: 'peak memory', cell: ({ peakMemoryBytes }) => formatBytes(peakMemoryBytes) },
  { name: 'file', cell: ({ fileBytes }) => formatBytes(fileBytes) },
];

function formatSpread({ median, low, high }: Spread): string {
  const show = (value: number) => String(Number(value.toPrecision(3)));
  return `${show(median)} (${show(low)}-${show(high)})`;
}
