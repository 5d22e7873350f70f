import type { PrunePlan, PruneReport, QuantizeRequest } from '../node.js';
import { QUANTIZE } from '../options/commands.js';
import { resolveQuantisation } from '../options/quantisation.js';
import { REMOVE_NOTHING } from '../pipeline/run-quantize.js';
import { formatBytes } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatDtypes } from './format-dtypes.js';
import { formatNotes } from './format-run.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath } from './next-steps.js';
import { formatOutcome, isEstimated } from './prune.js';
import { describeMemory, describeTime } from './prune-plan.js';
import type { Colors } from './terminal.js';

/** `quantize <model>` */
export const quantizeCommand: CommandRow<QuantizeRequest, PruneReport | PrunePlan> = {
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
  run: (api, request) =>
    isEstimated(request) ? api.plan({ ...request, ...REMOVE_NOTHING }) : withResumeHint(request, api.quantize(request)),
  format: (result, colors, request) =>
    'stages' in result ? formatEstimate(result, colors) : formatQuantized(result, colors, request),
};

/** Estimated files and time, for people. */
function formatEstimate(plan: PrunePlan, colors: Colors): string {
  const [result] = plan.results;
  return [
    `${colors.bold('Would quantise')} ${plan.model} (${formatBytes(result!.bytes.before)} before)\n`,
    ...formatDtypes(result!),
    ...formatNotes(plan.remarks, colors),
    describeTime(plan, colors) + describeMemory(plan),
  ].join('\n');
}

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
