import { counted } from '../counted.js';
import { OptionError } from '../errors.js';

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
