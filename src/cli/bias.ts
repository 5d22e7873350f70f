import type { LossPair } from '../evaluation/measure-bias.js';
import type { BiasRequest, BiasResult } from '../node.js';
import { BIAS } from '../options/commands.js';
import { formatLoss } from '../report/format-figure.js';
import { formatPercent } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** `bias <dense> <pruned>` */
export const biasCommand: CommandRow<BiasRequest, BiasResult> = {
  name: 'bias',
  call: 'measureCalibrationBias',
  description: 'compare the cost of pruning on the calibration text and on another one, context by context',
  arguments: {
    '<dense>': 'the model that was pruned: a folder, an .onnx file, or org/name on the Hub',
    '<pruned>': 'the pruned model',
  },
  families: BIAS,
  examples: [
    'bias ./model ./smaller --text my-domain.txt',
    'bias org/model ./smaller --text my.jsonl --calibration cal.txt',
    'bias ./model ./smaller --text my-domain.txt --json',
  ],
  run: (api, request) => api.measureCalibrationBias(request),
  format: formatBias,
};

/** A bias as text: entire texts, contexts, then warnings. */
export function formatBias(bias: BiasResult, colors: Colors): string {
  const { calibration, text, contexts, described, overlap, warnings, name } = bias;
  const shared = overlap.tokenCount === 0 ? 0 : overlap.sharedCount / overlap.tokenCount;
  const about = (context: number) =>
    (described[context]?.tokens ?? [])
      .slice(0, 4)
      .map((token) => JSON.stringify(token.text).slice(1, -1))
      .join(' ');
  return [
    formatTable(
      [...words(''), ...numbers('tokens', 'dense', 'pruned', 'lost')],
      [
        ['calibration', calibration],
        [name, text],
      ].map(([label, losses]) => lossRow(label as string, losses as LossPair)),
    ),
    formatTable(
      [
        ...words('context'),
        ...numbers('of calibration', 'of text', 'lost there', 'share of the loss'),
        ...words('characteristic tokens'),
      ],
      contexts.map((context, at) => [
        `${at + 1}${context.covered ? '' : ' !'}`,
        formatPercent((context.calibration?.tokenCount ?? 0) / calibration.tokenCount),
        formatPercent((context.text?.tokenCount ?? 0) / text.tokenCount),
        context.text ? formatLoss(context.text.pruned - context.text.dense) : '',
        formatPercent(context.lostShare),
        about(at),
      ]),
    ),
    `Losses in nats per token; contexts marked ! are hardly covered by the calibration. ${formatPercent(shared)} of the text ` +
      `is in the calibration text too.\n`,
    ...(warnings.length === 0
      ? ['Nothing suspicious.\n']
      : warnings.map((warning) => `${colors.yellow('warning:')} ${warning}\n`)),
  ].join('\n');
}

function lossRow(name: string, { tokenCount, dense, pruned, standardError }: LossPair): string[] {
  const error = standardError === undefined ? '' : ` ± ${formatLoss(standardError)}`;
  return [name, String(tokenCount), formatLoss(dense), formatLoss(pruned), `${formatLoss(pruned - dense)}${error}`];
}
