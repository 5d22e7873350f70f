import { continuesTogether } from './decoder.js';
import type { BatchLimits } from './plan-batches.js';
import type { ScoringParts } from './score-batch.js';

/** Largest number of logits that a run returns (128 MiB in single precision). */
const LOGITS_LIMIT = 2 ** 25;

/** Largest number of elements of keys and values copied for a run (256 MiB in single precision). */
const CACHE_LIMIT = 2 ** 26;

/** Largest number of tokens per run: more does not increase throughput. */
const TOKEN_LIMIT = 1024;

/** Finds the batch limits of a decoder; a few small runs test its KV cache. */
export async function findBatchLimits({ decoder, scorer }: ScoringParts): Promise<BatchLimits> {
  const width = decoder.vocabularySize ?? (await decoder.run([Int32Array.of(0)])).dims.at(-1) ?? 1;
  return {
    hasCache: decoder.hasCache,
    continuesTogether: decoder.hasCache && (await continuesTogether(decoder, scorer.widen)),
    tokenCount: Math.max(1, Math.min(TOKEN_LIMIT, Math.floor(LOGITS_LIMIT / width))),
    cachedTokenCount: Math.max(1, Math.floor(CACHE_LIMIT / Math.max(1, decoder.cacheWidth))),
    rowCount: decoder.rowLimit,
  };
}
