import { EXPERIMENTS, TABLES, type TableName } from './experiments.js';
import type { Measurement, Measurements } from './measurement.js';

/** The tables of a model as Markdown, as far as they are measured. */
export function formatResults(name: string, known: Measurements): string {
  const dense = known.dense?.measurement;
  const texts = Object.keys(dense?.perplexities ?? {});
  const taskNames = Object.keys(dense?.tasks ?? {});
  const sections = Object.entries(TABLES).map(([table, heading]) => {
    const rows = EXPERIMENTS.filter(({ tables, id }) => tables.includes(table as TableName) && known[id] !== undefined);
    const lines = rows.map(({ id }) => formatRow(id, known[id]!.measurement, { dense, texts, taskNames }));
    const head = ['run', ...texts, 'mean rise of ln ppl, unseen', ...taskNames, 'parameters', 'prune s', 'peak MB'];
    return [`## ${heading}`, '', row(head), row(head.map(() => '---')), ...lines.map(row), ''].join('\n');
  });
  return [
    `# Results on ${name}`,
    '',
    'Perplexity over 16 windows of 512 tokens each, without BOS; all calibrated on WikiText-2 train, `auto` on half as much of it',
    "and half the model's own writing. Tasks: acc_norm in percent / mean negative log-likelihood of the right answer in nats.",
    'Times are of a machine that did other things too: compare stages within a row, not rows.',
    '',
    ...sections,
  ].join('\n');
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
    rise.toFixed(3),
    ...taskNames.map((task) => {
      const found = tasks?.[task];
      return found === undefined ? '' : `${(100 * found.accNorm).toFixed(1)} / ${found.goldNll.toFixed(2)}`;
    }),
    pruning ? `${(pruning.parameters.after / 1e6).toFixed(1)} M` : '',
    seconds?.toFixed(0) ?? '',
    pruning?.peakMemoryBytes ? (pruning.peakMemoryBytes / 1e6).toFixed(0) : '',
  ];
}
