import { counted } from '../counted.js';
import { refusal } from '../options/option.js';
import type { ResolvedOptions } from '../options.js';
import type { PruneJob } from '../prune/job.js';
import { batchSizeOf } from '../prune/prune-context.js';

export interface Shard {
  /** From 1. */
  readonly index: number;
  readonly count: number;
}

/** @param name such as `2/4` @throws OptionError for an invalid part. */
export function parseShard(name: string): Shard {
  const [index = 0, count] = name.split('/').map(Number);
  if (count === undefined) throw refusal('shard', `is ${name}; expected a part of several, such as 1/${name}`);
  if (index > count) throw refusal('shard', `is ${name}; expected at most ${count}/${count}`);
  return { index, count };
}

/** Refuses function groups: contexts are clustered on the tokens of all windows. @throws OptionError */
export function refuseGroups({ grouping, methodName }: ResolvedOptions): void {
  if (grouping === undefined) return;
  throw refusal(
    'shard',
    `does not work with function groups, which method ${methodName} uses: their contexts are clustered on all windows at once. ` +
      'Set grouping to false (--no-grouping), use method auto, obc or flap, or observe all windows in one run',
  );
}

/** The job for a shard's windows: complete batches, so that rounding does not depend on sharding. @throws OptionError */
export function takeShard(
  job: Omit<PruneJob, 'store'>,
  { index, count }: Shard,
): Omit<PruneJob, 'store'> & { readonly firstWindow: number } {
  const { windows } = job;
  const batchSize = batchSizeOf(job);
  const batchCount = Math.ceil(windows.length / batchSize);
  if (batchCount < count)
    throw refusal(
      'shard',
      `is ${index}/${count}, and the run has ${counted(batchCount, 'batch', 'batches')} (${counted(windows.length, 'window')}, ${batchSize} at once). ` +
        `Take at most ${counted(batchCount, 'shard')}, or more windows (calibration.windowCount)`,
    );
  const startOf = (shard: number) => batchSize * Math.floor((shard * batchCount) / count);
  const firstWindow = startOf(index - 1);
  return { ...job, firstWindow, windows: windows.slice(firstWindow, startOf(index)) };
}
