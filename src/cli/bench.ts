import { counted } from '../counted.js';
import type { Spread } from '../evaluation/speed.js';
import type { BenchmarkReport, BenchmarkRequest, ModelSpeed } from '../node.js';
import { BENCH } from '../options/commands.js';
import { formatBytes, formatDuration, formatThreeDigits } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** `bench <models...>` */
export const benchCommand: CommandRow<BenchmarkRequest, BenchmarkReport> = {
  name: 'bench',
  call: 'benchmark',
  description: 'measure speed and memory of models, each in its own process',
  arguments: { '<models...>': 'folders, .onnx files, or names on the Hub; the others are compared with the first' },
  families: BENCH,
  examples: [
    'bench ./model ./smaller',
    'bench ./model ./smaller --faster 1.5',
    'bench ./model ./smaller --prompt-length 512 --json',
  ],
  run: (api, request) => api.benchmark(request),
  format: formatBenchmark,
};

/** A benchmark as text: a row per figure, a column per model, then a summary. */
export function formatBenchmark(report: BenchmarkReport, colors: Colors): string {
  const { machine, promptLength, newTokens, rounds, models, comparisons } = report;
  const columns = [...words(''), ...numbers(...models.map(({ model }) => model))];
  const rows = ROWS.map(({ name, cell }) => [name, ...models.map(cell)]);
  return [
    formatTable(columns, rows),
    ...comparisons.map(
      ({ model, reference, summary }) =>
        `${colors.bold(model)} compared with ${reference}\n${summary.map((sentence) => `  ${sentence}\n`).join('')}`,
    ),
    colors.dim(
      `${counted(promptLength, 'token')} read, ${newTokens} written, median and quartiles of ${counted(rounds, 'round')}; ` +
        `${machine.processor}, ${counted(machine.cores, 'core')}, Node.js ${machine.node}\n`,
    ),
  ].join('\n');
}

const ROWS: readonly { readonly name: string; readonly cell: (speed: ModelSpeed) => string }[] = [
  { name: 'prefill, tokens/s', cell: ({ prefillTokensPerSecond }) => formatSpread(prefillTokensPerSecond) },
  { name: 'decode, tokens/s', cell: ({ decodeTokensPerSecond }) => formatSpread(decodeTokensPerSecond) },
  { name: 'load', cell: ({ loadMs }) => formatDuration(loadMs.median) },
  { name: 'peak memory', cell: ({ peakMemoryBytes }) => formatBytes(peakMemoryBytes) },
  { name: 'file', cell: ({ fileBytes }) => formatBytes(fileBytes) },
];

function formatSpread({ median, low, high }: Spread): string {
  const show = formatThreeDigits;
  return `${show(median)} (${show(low)}-${show(high)})`;
}
