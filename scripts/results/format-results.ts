import { EXPERIMENTS, TABLES, type TableName } from './experiments.js';
import type { Measurement, Measurements } from './measurement.js';

/** The tables of every model as one Markdown page, as far as they are measured. */
export function formatResults(models: readonly (readonly [name: string, known: Measurements])[]): string {
  return [
    '# Results',
    '',
    'Made by `npm run results` from [what was measured](results). Perplexity over 16 windows of 512 tokens each, without BOS;',
    "all calibrated on WikiText-2 train, `auto` on half as much of it and half the model's own writing. Tasks: acc_norm in",
    'percent / mean negative log-likelihood of the right answer in nats. Times are of a machine that did other things too:',
    'compare stages within a row, not rows; runs that differ only in sparsity share their look at the dense model.',
    '',
    ...models.flatMap(([name, known]) => [`## ${name}`, '', ...formatTables(known)]),
  ].join('\n');
}

function formatTables(known: Measurements): string[] {
  const dense = known.dense?.measurement;
  const found = EXPERIMENTS.filter(({ id }) => known[id] !== undefined);
  const namesIn = (part: 'perplexities' | 'tasks') => [
    ...new Set(found.flatMap(({ id }) => Object.keys(known[id]!.measurement[part] ?? {}))),
  ];
  const texts = namesIn('perplexities');
  const taskNames = namesIn('tasks');
  const head = ['run', ...texts, 'mean rise of ln ppl, unseen', ...taskNames, 'parameters', 'prune s', 'peak MB'];
  return Object.entries(TABLES).flatMap(([table, heading]) => {
    const rows = found.filter(({ tables }) => tables.includes(table as TableName));
    if (rows.every(({ id }) => id === 'dense')) return [];
    const lines = rows.map(({ id }) => formatRow(id, known[id]!.measurement, { dense, texts, taskNames }));
    return [`### ${heading}`, '', row(head), row(head.map(() => '---')), ...lines.map(row), ''];
  });
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

interface RowContext {
  readonly dense: Measurement | undefined;
  readonly texts: readonly string[];
  readonly taskNames: readonly string[];
}

function formatRow(
  id: string,
  { pruning, perplexities, tasks }: Measurement,
  { dense, texts, taskNames }: RowContext,
): string[] {
  const unseen = texts.filter((text) => text !== 'wiki');
  const rises = unseen.map((text) =>
    Math.log((perplexities[text]?.value ?? Number.NaN) / (dense?.perplexities[text]?.value ?? Number.NaN)),
  );
  const rise = rises.reduce((sum, value) => sum + value, 0) / rises.length;
  const seconds = pruning?.timings.reduce((sum, { ms }) => sum + ms / 1000, 0);
  return [
    id,
    ...texts.map((text) => perplexities[text]?.value.toFixed(2) ?? ''),
    Number.isNaN(rise) ? '' : rise.toFixed(3),
    ...taskNames.map((task) => {
      const found = tasks?.[task];
      return found === undefined ? '' : `${(100 * found.accNorm).toFixed(1)} / ${found.goldNll.toFixed(2)}`;
    }),
    pruning ? `${(pruning.parameters.after / 1e6).toFixed(1)} M` : '',
    seconds?.toFixed(0) ?? '',
    pruning?.peakMemoryBytes ? (pruning.peakMemoryBytes / 1e6).toFixed(0) : '',
  ];
}
