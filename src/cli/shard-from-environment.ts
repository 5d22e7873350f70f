import { OptionError } from '../errors.js';

/** Variables with the index of a process in a task array, the first index, and the number of tasks, if known. */
const SCHEDULERS = [
  {
    name: 'SLURM_ARRAY_TASK_ID',
    first: (environment: Environment) => Number(environment.SLURM_ARRAY_TASK_MIN ?? 0),
    count: (environment: Environment) => environment.SLURM_ARRAY_TASK_COUNT,
  },
  { name: 'JOB_COMPLETION_INDEX', first: () => 0, count: () => undefined },
] as const;

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
  const count = found.count(environment);
  // An array that repeats failed tasks has other indices.
  if (count !== undefined && Number(count) !== Number(given))
    throw new OptionError(
      `--shard ${given}: the array has ${count} tasks. Start as many tasks as shards, or give the index too, such as --shard 1/${given}.`,
      { option: 'shard' },
    );
  const index = Number(environment[found.name]) - found.first(environment) + 1;
  if (Number.isSafeInteger(index) && index >= 1 && index <= Number(given)) return `${index}/${Number(given)}`;
  throw new OptionError(
    `--shard ${given}: ${found.name} is ${environment[found.name]}, which is task ${index} of ${given}. Start as many tasks as shards.`,
    { option: 'shard' },
  );
}
