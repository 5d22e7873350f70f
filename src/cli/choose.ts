import type { Choice, ChooseRequest } from '../node.js';
import { CHOOSE } from '../options/commands.js';
import { fractionOf } from '../options/kinds.js';
import { resolveShrink } from '../options/shrink.js';
import { formatBytes, formatExactPercent, formatThreeDigits } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatTable } from './format-table.js';
import { withFolderHint } from './interrupted-error.js';
import type { Colors } from './terminal.js';

/** `choose <model>` */
export const chooseCommand: CommandRow<ChooseRequest, Choice> = {
  name: 'choose',
  call: 'choose',
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
  run: (api, request) => withFolderHint(request, api.choose(request)),
  format: formatChoice,
};

/** A row per model, and the recommended one. */
function formatChoice(
  { models, recommended, promptLength }: Choice,
  colors: Colors,
  { test, text: read, mostLoss = CHOOSE.Choice.mostLoss.default }: ChooseRequest,
): string {
  const [dense] = models;
  const chosen = models.find(({ name }) => name === recommended);
  const loss = dense && chosen ? chosen.bitsPerByte / dense.bitsPerByte - 1 : Number.NaN;
  const allowedLoss = fractionOf(mostLoss);
  const reason =
    loss <= allowedLoss
      ? `the smallest that loses at most ${formatExactPercent(allowedLoss)} of bits per byte`
      : `none loses at most ${formatExactPercent(allowedLoss)} of bits per byte, and this one loses least`;
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
      ? [
          `${colors.yellow('note:')} the models were calibrated on this text, so results are optimistic; --test gives another\n`,
        ]
      : []),
    `${colors.bold('Take')} ${chosen?.model ?? recommended}: ${reason}.\n`,
  ].join('\n');
}
