import { type BlockRunner, countTokens } from '../runtime/block-runner.js';
import type { PruneContext } from './prune-context.js';

/** Largest size of the cached values; larger ones are computed again. */
const CACHE_LIMIT_BYTES = 512 * 2 ** 20;

/** Caches values of a runner's current stage, if they are small enough together; later runs start from them. */
export function cacheValues(
  { batches }: Pick<PruneContext, 'batches'>,
  runner: BlockRunner,
  values: readonly { readonly value: string; readonly channelCount: number }[],
): void {
  const tokenCount = countTokens(batches);
  const channelCount = values.reduce((sum, value) => sum + value.channelCount, 0);
  if (tokenCount * channelCount * Float32Array.BYTES_PER_ELEMENT <= CACHE_LIMIT_BYTES)
    runner.hold(values.map(({ value }) => value));
}
