import type { BlockRunner } from '../runtime/block-runner.js';
import type { PruneContext } from './prune-context.js';

/** Beyond this, values are computed again instead. */
const CACHE_LIMIT_BYTES = 512 * 2 ** 20;

/** Caches values of a runner's current stage, so that later runs start from them, where all of them are small enough. */
export function cacheValues(
  { batches }: Pick<PruneContext, 'batches'>,
  runner: BlockRunner,
  values: readonly { readonly value: string; readonly channelCount: number }[],
): void {
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const channelCount = values.reduce((sum, value) => sum + value.channelCount, 0);
  if (tokenCount * channelCount * Float32Array.BYTES_PER_ELEMENT <= CACHE_LIMIT_BYTES)
    runner.hold(values.map(({ value }) => value));
}
