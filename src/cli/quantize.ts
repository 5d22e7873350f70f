import type { PruneReport, QuantizeRequest } from '../node.js';
import { QUANTIZE } from '../options/commands.js';
import { resolveQuantisation } from '../options/quantisation.js';
import { formatBytes } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatDtypes } from './format-dtypes.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath } from './next-steps.js';
import { formatOutcome } from './prune.js';
import type { Colors } from './terminal.js';

/** `quantize <model>` */
export const quantizeCommand: CommandRow<QuantizeRequest, PruneReport> = {
  name: 'quantize',
  call: 'quantize',
  description: 'write a model in other dtypes, without pruning',
  arguments: { '<model>': 'a folder, an .onnx file, or org/name on the Hub' },
  families: QUANTIZE,
  examples: [
    'quantize org/model --out small --dtype q4',
    'quantize ./model --out small --dtype fp16,q4',
    'quantize ./model --out small --dtype q4 --calibration my.txt',
  ],
  check: resolveQuantisation,
  run: (api, request) => withResumeHint(request, api.quantize(request)),
  format: formatQuantized,
};

/** The written files, for people. */
function formatQuantized(report: PruneReport, colors: Colors, { report: place }: QuantizeRequest): string {
  const { bytes, out, model } = report;
  const heading =
    out === undefined ? `${colors.bold('Would quantise')} ${model}` : `${colors.bold('Quantised')} ${model} -> ${out}`;
  return [
    `${heading} (${formatBytes(bytes.before)} before)\n`,
    ...formatDtypes(report),
    ...formatOutcome(report, colors, {
      result: 'quantised',
      report: place,
      next: (folder) => ['bench', asPath(model), asPath(folder)],
    }),
  ].join('\n');
}
