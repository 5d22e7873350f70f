import type { Evaluation, GenerationSample, TaskReport, TextDivergence } from '../node.js';
import { formatDivergence, formatLoss, formatPerplexity } from '../report/format-figure.js';
import { formatPercent } from '../report/format-quantity.js';
import { numbers } from '../report/table-columns.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** Measurements of a model, and text that it generated. */
export interface ShownEvaluation extends Evaluation {
  readonly generation?: GenerationSample;
}

/** Evaluations as text: a row per figure, a column per model, then generated text. */
export function formatEvaluations(evaluations: readonly ShownEvaluation[], colors: Colors): string {
  const models = numbers(...evaluations.map(({ model }) => model));
  const tables = TABLES.flatMap(({ heading, rowsOf }) => {
    const rows = joinRows(evaluations.map(rowsOf));
    return rows.length === 0 ? [] : [formatTable([{ heading }, ...models], rows)];
  });
  const samples = evaluations.flatMap(({ model, generation }) =>
    generation ? [`${colors.bold(model)}\n${generation.text}\n`] : [],
  );
  return [...tables, ...samples].join('\n');
}

type Cells = readonly (readonly [name: string, cell: string])[];

const TABLES: readonly { readonly heading: string; readonly rowsOf: (evaluation: ShownEvaluation) => Cells }[] = [
  {
    heading: 'perplexity',
    rowsOf: ({ perplexity }) => perplexity.map((result) => [result.text, formatPerplexity(result.perplexity)]),
  },
  {
    heading: 'bits per byte',
    rowsOf: ({ perplexity }) =>
      perplexity.flatMap(({ text, bitsPerByte }) =>
        bitsPerByte === undefined ? [] : [[text, bitsPerByte.toFixed(3)]],
      ),
  },
  {
    heading: 'against the reference',
    rowsOf: ({ divergence }) =>
      divergence.flatMap(
        (result): Cells => [
          [`${result.text}, KL divergence`, `${formatDivergence(result.klDivergence)} nats`],
          [`${result.text}, same top-1 token`, formatAgreement(result)],
        ],
      ),
  },
  { heading: 'task', rowsOf: ({ tasks }) => tasks.flatMap(taskCells) },
];

function formatAgreement({ top1Agreement, intervals }: TextDivergence): string {
  if (intervals === undefined) return formatPercent(top1Agreement);
  const [low, high] = intervals.top1Agreement.map((end) => (100 * Math.min(1, Math.max(0, end))).toFixed(1));
  return `${(100 * top1Agreement).toFixed(1)} % (${low} to ${high})`;
}

function taskCells(task: TaskReport): Cells {
  const accuracy = (value: number, error: number) =>
    `${(100 * value).toFixed(1)} %${Number.isFinite(error) ? ` ± ${(100 * error).toFixed(1)}` : ''}`;
  const name = `${task.file} (${task.itemCount})`;
  return [
    [`${name}, acc`, accuracy(task.acc, task.accStderr)],
    ...(task.kind === 'multiple-choice'
      ? ([[`${name}, acc_norm`, accuracy(task.accNorm, task.accNormStderr)]] as const)
      : ([[`${name}, perplexity`, formatPerplexity(task.perplexity)]] as const)),
    [`${name}, -ln p of the right answer`, formatLoss(task.goldNll)],
  ];
}

/** One row per name, in the order of appearance; a model without that figure has an empty cell. */
function joinRows(columns: readonly Cells[]): string[][] {
  const names = [...new Set(columns.flatMap((cells) => cells.map(([name]) => name)))];
  return names.map((name) => [name, ...columns.map((cells) => cells.find(([own]) => own === name)?.[1] ?? '')]);
}
