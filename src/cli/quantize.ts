import type { PruneReport, QuantizeRequest } from '../node.js';
import { QUANTIZE } from '../options/commands.js';
import { resolveQuantisation } from '../options/quantisation.js';
import { formatBytes } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatDtypes } from './format-dtypes.js';
import { formatElapsed, formatNotes, formatSideFiles } from './format-run.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath, formatDone } from './next-steps.js';
import { formatCalibration, formatCertificate, formatQuality } from './prune.js';
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
  const { bytes, timings, remarks, out, model } = report;
  const heading =
    out === undefined ? `${colors.bold('Would quantise')} ${model}` : `${colors.bold('Quantised')} ${model} -> ${out}`;
  return [
    `${heading} (${formatBytes(bytes.before)} before)\n`,
    ...formatDtypes(report),
    ...formatCalibration(report),
    ...formatCertificate(report.certificate),
    ...formatSideFiles(report.sideFiles),
    ...formatNotes(remarks, colors),
    ...formatQuality(report.quality, 'quantised'),
    formatElapsed(timings, colors),
    ...(out === undefined
      ? []
      : [formatDone({ out, report: place, next: ['bench', asPath(model), asPath(out)] }, colors)]),
  ].join('\n');
}
