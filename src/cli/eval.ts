import { OptionError } from '../errors.js';
import type {
  EvaluateRequest,
  Evaluation,
  GenerationRequest,
  GenerationSample,
  ModelComparison,
  TaskReport,
  TextDivergence,
} from '../node.js';
import { EVALUATE, GENERATE_TEXT } from '../options/commands.js';
import { boolean } from '../options/kinds.js';
import { pickOptions, refusal, rowsOf } from '../options/option.js';
import { checkMeasuring } from '../options/texts.js';
import { formatDivergence, formatLoss, formatPerplexity } from '../report/format-figure.js';
import { formatPercent } from '../report/format-quantity.js';
import { numbers } from '../report/table-columns.js';
import type { CliApi } from './api.js';
import type { CommandRow } from './command.js';
import { formatComparisons } from './format-comparisons.js';
import { formatTable } from './format-table.js';
import { InterruptedError } from './interrupted-error.js';
import type { Colors } from './terminal.js';

interface EvalRequest extends EvaluateRequest, Omit<GenerationRequest, 'model' | 'prompt'> {
  readonly prompt?: string;
  readonly compare?: boolean;
}

interface EvalResult {
  readonly models: readonly ShownEvaluation[];
  readonly comparisons?: readonly ModelComparison[];
}

const { 'Sample text': sample } = GENERATE_TEXT;

/** Options of `eval`: those of two calls, and `--compare`. */
export const EVAL = {
  ...EVALUATE,
  'Sample text': { ...sample, prompt: { ...sample.prompt, required: false } },
  Comparison: {
    compare: {
      kind: boolean,
      flag: '--compare',
      help: 'test whether the models differ from the first by more than noise',
    },
  },
};

/** `eval <models...>` */
export const evalCommand: CommandRow<EvalRequest, EvalResult> = {
  name: 'eval',
  call: 'evaluateModels',
  description: 'measure perplexity and tasks and write sample text, one model or several side by side',
  arguments: { '<models...>': 'folders, .onnx files, or names on the Hub' },
  families: EVAL,
  examples: [
    'eval ./model ./smaller --text my-test.txt --reference ./model',
    'eval org/model ./smaller --text my-test.txt --tasks piqa.jsonl --compare',
    "eval ./model ./smaller --generate 'Once upon a time'",
  ],
  check: checkPurpose,
  run: (api, request) =>
    evaluate(api, request).catch((error: unknown) => {
      if (!request.signal?.aborted || request.resume === undefined) throw error;
      throw new InterruptedError(`interrupted; run the same command again to resume from ${request.resume}`);
    }),
  format: ({ models, comparisons }, colors) =>
    [formatEvaluations(models, colors), ...(comparisons ? [formatComparisons(comparisons, colors)] : [])].join('\n'),
};

/** @throws OptionError when there is nothing to measure, or nothing to compare with, or an option has no effect. */
function checkPurpose(request: EvalRequest): void {
  const { models, texts, tasks, prompt, reference, compare, seed } = request;
  if (!texts && !tasks && prompt === undefined)
    throw new OptionError(
      "name what to measure with '--text FILE', '--tasks FILE', '--generate PROMPT', or several of them",
    );
  if (reference !== undefined && !texts)
    throw new OptionError("'--reference MODEL' needs a '--text FILE' to compare on");
  if (compare && (models.length < 2 || !(texts || tasks)))
    throw new OptionError("'--compare' needs two models and '--text FILE' or '--tasks FILE'");
  checkMeasuring(request);
  const unused = (['newTokens', 'temperature'] as const).find((name) => request[name] !== undefined);
  if (prompt === undefined && unused !== undefined) throw refusal(unused, 'has no effect without prompt; leave it out');
  if (prompt === undefined && !compare && seed !== undefined)
    throw refusal('seed', 'has no effect without prompt and without compare; leave it out');
}

async function evaluate(api: CliApi, request: EvalRequest): Promise<EvalResult> {
  // A prompt that a model cannot read is refused before hours of measurements.
  const written: Pick<ShownEvaluation, 'generation'>[] = [];
  for (const model of request.models) written.push(await write(api, model, request));
  const evaluations = await measure(api, request);
  const shown = evaluations.map((evaluation, at) => ({ ...evaluation, ...written[at] }));
  if (!request.compare) return { models: shown };
  const { seed } = request;
  return { models: shown, comparisons: api.compareEvaluations(evaluations, seed === undefined ? {} : { seed }) };
}

async function measure(api: CliApi, request: EvalRequest): Promise<readonly Evaluation[]> {
  if (request.texts || request.tasks) return api.evaluateModels(pickOptions(request, rowsOf(EVALUATE)));
  return request.models.map((model) => ({ model, perplexity: [], divergence: [], tasks: [] }));
}

async function write(api: CliApi, model: string, { prompt, ...request }: EvalRequest) {
  if (prompt === undefined) return {};
  return { generation: await api.generateText({ ...pickOptions(request, rowsOf(GENERATE_TEXT)), model, prompt }) };
}

/** Measurements of a model, and text that it generated. */
interface ShownEvaluation extends Evaluation {
  readonly generation?: GenerationSample;
}

/** Evaluations as text: a row per figure, a column per model, then generated text. */
function formatEvaluations(evaluations: readonly ShownEvaluation[], colors: Colors): string {
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
