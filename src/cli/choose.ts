import type { ShrinkRequest } from '../node.js';
import { omitUndefined } from '../omit-undefined.js';
import { SHRINK } from '../options/commands.js';
import { fraction, fractionOf, text } from '../options/kinds.js';
import { type Families, row } from '../options/option.js';
import { resolveShrink, sizeName } from '../options/shrink.js';
import type { Fraction } from '../options.js';
import type { JobControl } from '../progress.js';
import { formatBytes, formatExactPercent, formatThreeDigits } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import type { CliApi } from './api.js';
import type { CommandRow } from './command.js';
import { formatTable } from './format-table.js';
import { withResumeHint } from './interrupted-error.js';
import type { Colors } from './terminal.js';

interface ChooseRequest extends ShrinkRequest {
  readonly text: string;
  readonly out: string;
  readonly test?: string;
  readonly mostLoss?: Fraction;
}

const { out, targetSize, allow, dtypes, force, certify } = SHRINK.Result;
const { text: calibrated, ...READ } = SHRINK.Calibration;

/** Options of `choose`: those of `shrink`, what models are measured on, and what may be lost. */
export const CHOOSE = {
  Result: {
    out: { ...out, help: 'folder that gets a folder for each model', required: true },
    targetSize: {
      ...targetSize,
      help: 'sizes to try beside q8 and q4',
      otherwise: 'one between both, and two below q4',
    },
    allow,
    dtypes,
    force,
    certify,
  },
  Choice: {
    text: { ...calibrated, help: 'your text, .txt or .jsonl, that models are made by', required: true },
    test: row('--test <file>', 'text that they are measured on', {
      kind: text('a path'),
      otherwise: 'that of --text, which flatters what was made by it',
      everyday: true,
    }),
    mostLoss: row('--most-loss <fraction>', "bits per byte that may be lost, as a fraction of the dense model's", {
      kind: fraction,
      default: 0.02,
      everyday: true,
    }),
  },
  Method: SHRINK.Method,
  Calibration: READ,
  Running: SHRINK.Running,
} as const satisfies Families;

/** A model that was made and measured. */
export interface MeasuredChoice {
  /** `dense`, `q8`, `q4`, or the size that was asked for. */
  readonly name: string;
  readonly model: string;
  readonly bytes: number;
  readonly bitsPerByte: number;
  readonly tokensPerSecond: number;
  /** Time of the prompt, which is read before the first token is written. */
  readonly firstTokenMs: number;
}

/** What was measured, the dense model first, and what is recommended. */
export interface Choice {
  readonly models: readonly MeasuredChoice[];
  readonly recommended: string;
  readonly promptLength: number;
}

/** `choose <model>` */
export const chooseCommand: CommandRow<ChooseRequest, Choice> = {
  name: 'choose',
  description: 'make a model in several sizes, measure all on your text, and recommend one',
  arguments: { '<model>': 'a folder, an .onnx file, or org/name on the Hub' },
  families: CHOOSE,
  examples: [
    'choose org/model --out sizes --text mine.txt',
    'choose ./model --out sizes --text mine.txt --test other.txt --most-loss 5%',
    'choose ./model --out sizes --text mine.txt --target-size 60MB,80MB',
  ],
  check: ({ test: _, mostLoss: __, ...request }) =>
    void resolveShrink({ ...request, targetSize: request.targetSize ?? '1GB' }),
  run: (api, request) => withResumeHint(request, choose(api, request)),
  format: formatChoice,
};

/** Sizes below q4 that are tried where none are named. */
const SHARES_OF_Q4 = [0.9, 0.8];

async function choose(api: CliApi, request: ChooseRequest & JobControl): Promise<Choice> {
  const { test, mostLoss = CHOOSE.Choice.mostLoss.default, ...given } = request;
  const { model, text: read, onProgress, signal, embeddings, offline, executionProvider } = request;
  const { text: _, allow: __, dtypes: ___, heal: ____, targetSize: _____, calibration, ...shared } = given;
  // Eight bits learn nothing from text.
  const learned = { calibration: { ...calibration, source: { file: read } } };
  const plain = [
    await api.quantize({ ...shared, dtype: 'q8', out: `${request.out}/q8` }),
    await api.quantize({ ...shared, ...learned, dtype: 'q4', out: `${request.out}/q4` }),
  ];
  const [q8 = 0, q4 = 0] = plain.map(({ bytes }) => bytes.after);
  const between = Math.round(Math.sqrt(q8 * q4));
  const sizes = [request.targetSize ?? [between, ...SHARES_OF_Q4.map((share) => Math.round(share * q4))]].flat();
  const made = await api.shrink({ ...given, targetSize: sizes });
  const reports = [...plain, ...made];
  const models = [model, ...reports.flatMap((report) => report.out ?? [])];
  const control = { ...omitUndefined({ embeddings, offline, executionProvider }), onProgress, signal };
  const evaluations = await api.evaluateModels({ ...control, models, texts: [test ?? read] });
  const { models: speeds, promptLength } = await api.benchmark({ ...control, models, probe: false });
  const names = ['dense', 'q8', 'q4', ...sizes.map(sizeName)];
  const sizesOf = [plain[0]?.bytes.before ?? 0, ...reports.map(({ bytes }) => bytes.after)];
  const measured = models.map(
    (each, at): MeasuredChoice => ({
      ...{ name: names[at]!, model: each, bytes: sizesOf[at]! },
      bitsPerByte: evaluations[at]?.perplexity[0]?.bitsPerByte ?? Number.NaN,
      tokensPerSecond: speeds[at]!.decodeTokensPerSecond.median,
      firstTokenMs: (1000 * promptLength) / speeds[at]!.prefillTokensPerSecond.median,
    }),
  );
  return { models: measured, recommended: recommend(measured, fractionOf(mostLoss)).name, promptLength };
}

/** The smallest model that loses no more than may be lost, else the one that loses least. */
export function recommend(models: readonly MeasuredChoice[], mostLoss: number): MeasuredChoice {
  const [dense, ...others] = models as readonly [MeasuredChoice, ...MeasuredChoice[]];
  const fine = others.filter(({ bitsPerByte }) => bitsPerByte <= dense.bitsPerByte * (1 + mostLoss));
  if (fine.length > 0) return fine.reduce((a, b) => (b.bytes < a.bytes ? b : a));
  return others.reduce((a, b) => (b.bitsPerByte < a.bitsPerByte ? b : a), others[0] ?? dense);
}

/** A row a model, and which to take. */
function formatChoice(
  { models, recommended, promptLength }: Choice,
  colors: Colors,
  { test, text: read, mostLoss = CHOOSE.Choice.mostLoss.default }: ChooseRequest,
): string {
  const [dense] = models;
  const chosen = models.find(({ name }) => name === recommended);
  const loss = dense && chosen ? chosen.bitsPerByte / dense.bitsPerByte - 1 : Number.NaN;
  const most = fractionOf(mostLoss);
  const why =
    loss <= most
      ? `the smallest that loses at most ${formatExactPercent(most)} of bits per byte`
      : `none loses at most ${formatExactPercent(most)} of bits per byte, and this one loses least`;
  return [
    formatTable(
      [...words('', 'model'), ...numbers('bytes', 'bits per byte', 'change', 'tokens/s', 'first token')],
      models.map(({ name, bytes, bitsPerByte, tokensPerSecond, firstTokenMs }) => [
        name === recommended ? '*' : '',
        name,
        formatBytes(bytes),
        bitsPerByte.toFixed(4),
        dense === undefined || name === 'dense' ? '' : `${(100 * (bitsPerByte / dense.bitsPerByte - 1)).toFixed(1)} %`,
        formatThreeDigits(tokensPerSecond),
        `${formatThreeDigits(firstTokenMs)} ms`,
      ]),
    ),
    `Bits per byte of ${test ?? read}; first token after a prompt of ${promptLength} tokens.\n`,
    ...(test === undefined
      ? [`${colors.yellow('note:')} models were made by the same text, which flatters them; --test names another\n`]
      : []),
    `${colors.bold('Take')} ${chosen?.model ?? recommended}: ${why}.\n`,
  ].join('\n');
}
