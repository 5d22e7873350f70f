import { EXPERIMENTS, type PageName, TABLES, type TableName } from './experiments.js';
import type { Measurement, Measurements, TextFigures } from './measurement.js';

/** What each page begins with. */
const HEADS: Readonly<Record<PageName, readonly string[]>> = {
  results: [
    '# Results',
    '',
    '`npm run results` writes this page; every figure is in a file ([gemma-3-270m](../results/gemma-3-270m.json),',
    '[smollm2](../results/smollm2.json), [smollm2-off-grid](../results/smollm2-off-grid.json)), and baselines and parts of methods in',
    'the [baselines](measured-results.md).',
    '',
    '- Perplexity is over 16 windows of 512 tokens. Windows of Gemma begin with BOS, as its tokenizer adds it. Only *wiki* resembles the',
    '  calibration text. *Rise* is the mean rise of ln perplexity over the other texts.',
    '- Calibration is on 64 windows of WikiText-2 train. For `auto` the model writes half of them: Gemma as by default, SmolLM2 here one',
    '  document per window, for healing too. With documents of 128 tokens, the default since, `auto 30 %` of SmolLM2 rises by 0.460',
    '  instead of 0.479, and healed by 0.375 instead of 0.410 ([research notes](auto.md#documents)).',
    '- Tasks are acc_norm in percent / mean negative log-likelihood of the right answer in nats.',
    '- *Tokens a second* are tokens scored per second of processor time, all cores together, loading included.',
    "- Dtypes are of a copy with reparametrised weights (`scripts/off-grid.ts`), because the original's had been quantised to 4 bits once.",
    "  *nearest levels* and ONNX Runtime's own tools round every weight by itself; the latter leave the embedding in float32. The others are",
    '  calibrated on 16 windows, half of which the model writes.',
    '- Runs that differ only in sparsity share measurements: compare times within a row only.',
    '- Healed rows, and those of Gemma, were made on a machine under heavy load; the time of `flap 40 %, healed` contains long pauses.',
    '- [Research notes](auto.md#weights-of-tokens-in-the-curvature) have Gemma-3-270M with other seeds, sparsities and windows.',
    '',
  ],
  notebook: [
    '# Baselines and parts of methods',
    '',
    '`npm run results` writes this page. [Results](results.md) explains the columns and compares whole methods.',
    '',
  ],
};

/** One page with the tables of every model, as far as they are measured. */
export function formatResults(
  page: PageName,
  models: readonly (readonly [name: string, known: Measurements])[],
): string {
  const tables = models.flatMap(([name, known]) => {
    const lines = formatTables(page, known);
    return lines.length === 0 ? [] : [`## ${name}`, '', ...lines];
  });
  return [...HEADS[page], ...tables].join('\n');
}

function formatTables(page: PageName, known: Measurements): string[] {
  const dense = known.dense?.measurement;
  const found = EXPERIMENTS.filter(({ id }) => known[id] !== undefined);
  const namesIn = (part: 'perplexities' | 'tasks') => [
    ...new Set(found.flatMap(({ id }) => Object.keys(known[id]!.measurement[part] ?? {}))),
  ];
  const texts = namesIn('perplexities');
  const taskNames = namesIn('tasks');
  const head = [
    'run',
    'model, MB',
    ...texts,
    'rise',
    ...taskNames,
    'parameters, M',
    'prune, s',
    'peak, MB',
    'tokens a second',
  ];
  return Object.entries(TABLES[page]).flatMap(([table, heading]) => {
    const rows = found.filter(({ tables }) => tables.includes(table as TableName));
    // A row whose first table is another one is only there for comparison.
    if (!rows.some(({ id, tables: [main] }) => id !== 'dense' && main === table)) return [];
    const lines = rows.map(({ id }) => formatRow(id, known[id]!.measurement, { dense, texts, taskNames }));
    return [`### ${heading}`, '', ...formatColumns([head, ...lines]), ''];
  });
}

/** Lines of a table whose first row is its head, without the columns that hold nothing of a pruned model. */
function formatColumns([head = [], ...rows]: readonly (readonly string[])[]): string[] {
  const isFilled = head.map((_, column) => rows.slice(1).some((cells) => cells[column] !== ''));
  const lines = [head, head.map(() => '---'), ...rows];
  return lines.map((cells) => row(cells.filter((_, column) => isFilled[column])));
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

interface RowContext {
  readonly dense: Measurement | undefined;
  readonly texts: readonly string[];
  readonly taskNames: readonly string[];
}

function formatRow(
  id: string,
  { pruning, modelBytes, perplexities, tasks }: Measurement,
  { dense, texts, taskNames }: RowContext,
): string[] {
  const unseen = texts.filter((text) => text !== 'wiki');
  const rises = unseen.map((text) =>
    Math.log((perplexities[text]?.value ?? Number.NaN) / (dense?.perplexities[text]?.value ?? Number.NaN)),
  );
  const rise = rises.reduce((sum, value) => sum + value, 0) / rises.length;
  const seconds = pruning?.timings.reduce((sum, { ms }) => sum + ms / 1000, 0);
  const [tokens, ms] = sumSpeed(Object.values(perplexities));
  return [
    id,
    modelBytes ? (modelBytes / 1e6).toFixed(1) : '',
    ...texts.map((text) => perplexities[text]?.value.toFixed(2) ?? ''),
    Number.isNaN(rise) ? '' : rise.toFixed(3),
    ...taskNames.map((task) => {
      const found = tasks?.[task];
      return found === undefined ? '' : `${(100 * found.accNorm).toFixed(1)}/${found.goldNll.toFixed(2)}`;
    }),
    pruning ? (pruning.parameters.after / 1e6).toFixed(1) : '',
    seconds?.toFixed(0) ?? '',
    pruning?.peakMemoryBytes ? (pruning.peakMemoryBytes / 1e6).toFixed(0) : '',
    ms > 0 ? (tokens / (ms / 1000)).toFixed(0) : '',
  ];
}

/** Tokens that were timed, and the processor's time. */
function sumSpeed(found: readonly TextFigures[]): [tokens: number, ms: number] {
  const timed = found.filter(({ processorMs }) => processorMs !== undefined);
  return [
    timed.reduce((sum, { tokenCount }) => sum + tokenCount, 0),
    timed.reduce((sum, { processorMs = 0 }) => sum + processorMs, 0),
  ];
}
