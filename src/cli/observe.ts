import { counted } from '../counted.js';
import { OptionError } from '../errors.js';
import { METRICS } from '../importance/metrics.js';
import type { ObservedFolder, ObserveRequest } from '../node.js';
import { OBSERVE } from '../options/commands.js';
import { resolveObservation } from '../options/request.js';
import { formatBytes } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatElapsed, formatNotes } from './format-run.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath, formatDone } from './next-steps.js';
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

interface Scheduler {
  /** Variable with the index of a process in a task array. */
  readonly name: string;
  /** Variables with the first index, the distance of two indices, and the number of tasks. */
  readonly first?: string;
  readonly step?: string;
  readonly count?: string;
}

const SCHEDULERS: readonly Scheduler[] = [
  {
    name: 'SLURM_ARRAY_TASK_ID',
    first: 'SLURM_ARRAY_TASK_MIN',
    step: 'SLURM_ARRAY_TASK_STEP',
    count: 'SLURM_ARRAY_TASK_COUNT',
  },
  { name: 'JOB_COMPLETION_INDEX' },
];

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Shard of `--shard`: `i/n`, or `n` in a task of a Slurm array or of a Kubernetes Indexed Job, which sets i.
 * @throws OptionError if no scheduler sets i, or it is out of range.
 */
export function shardFromEnvironment(given: string, environment: Environment): string {
  if (!/^[1-9]\d*$/.test(given)) return given;
  const found = SCHEDULERS.find(({ name }) => environment[name]);
  if (found === undefined)
    throw new OptionError(
      `--shard ${given} has no index, and neither ${SCHEDULERS.map(({ name }) => name).join(' nor ')} is set. Give both, such as --shard 1/${given}.`,
      { option: 'shard' },
    );
  const numberOf = (name: string | undefined, otherwise: number) => Number((name && environment[name]) || otherwise);
  const count = numberOf(found.count, Number(given));
  // An array that repeats failed tasks has other indices.
  if (count !== Number(given))
    throw new OptionError(
      `--shard ${given}: the array has ${counted(count, 'task')}. Start as many tasks as shards, or give the index too, such as --shard 1/${given}.`,
      { option: 'shard' },
    );
  const first = numberOf(found.first, 0);
  const index = (Number(environment[found.name]) - first) / numberOf(found.step, 1) + 1;
  if (Number.isSafeInteger(index) && index >= 1 && index <= Number(given)) return `${index}/${Number(given)}`;
  throw new OptionError(
    `--shard ${given}: ${found.name} is ${environment[found.name]}, which is not one of ${given} tasks in equal steps from ${first}. ` +
      `Start as many tasks as shards, or give the index too, such as --shard 1/${given}.`,
    { option: 'shard' },
  );
}
