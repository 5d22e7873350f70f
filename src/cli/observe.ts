import { counted } from '../counted.js';
import { METRICS } from '../importance/metrics.js';
import type { ObservedFolder, ObserveRequest } from '../node.js';
import { OBSERVE } from '../options/commands.js';
import { resolveObservation } from '../options/request.js';
import { formatBytes } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatElapsed, formatNotes } from './format-run.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath, formatDone } from './next-steps.js';
import { shardFromEnvironment } from './shard-from-environment.js';
import type { Colors } from './terminal.js';

/** `observe <model>` */
export const observeCommand: CommandRow<ObserveRequest, ObservedFolder> = {
  name: 'observe',
  call: 'observe',
  description:
    'measure a model once and save the statistics for prune --statistics; ' +
    '--method o-fang --metric divergence serves every method',
  arguments: { '<model>': 'a folder, an .onnx file, or org/name on the Hub' },
  families: OBSERVE,
  examples: [
    'observe org/model --out statistics',
    'observe ./model --out statistics --method o-fang --metric divergence',
    'observe ./model --out shard-2 --shard 2/4',
  ],
  check: resolveObservation,
  run(api, { shard: given, ...request }) {
    const shard = given === undefined ? undefined : shardFromEnvironment(given, process.env);
    return withResumeHint(request, api.observe({ ...request, ...(shard && { shard }) }));
  },
  format: formatObserved,
};

/** The saved statistics, for people. */
function formatObserved(found: ObservedFolder, colors: Colors): string {
  const { windowCount, windowLength } = found.calibration;
  const measures = [
    found.sums === 'gram' ? 'Gram matrices' : 'means and variances',
    ...(METRICS[found.metric].hasCurvature ? [`the curvature of the ${found.metric}`] : []),
    ...(found.grouped ? ['function groups'] : []),
  ];
  const [model, out] = [asPath(found.model), asPath(found.out)];
  const next = ['prune', model, '--out', 'SMALLER', '--sparsity', '30%', '--statistics', out];
  return [
    `${colors.bold('Observed')} ${found.model} -> ${found.out} (${found.method}, seed ${found.seed})\n`,
    `${measures.join(', ')} of ${counted(found.moduleCount, 'module')} on ${counted(windowCount, 'window')} of ${windowLength} tokens, ${formatBytes(found.bytes)}\n`,
    ...formatNotes(found.remarks, colors),
    formatElapsed(found.timings, colors),
    formatDone({ out: found.out, report: false, next }, colors),
  ].join('');
}
