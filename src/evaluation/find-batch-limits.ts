import { EngineError } from '../errors.js';
import { NO_PAST, readEvery } from './decoder.js';
import type { BatchLimits } from './plan-batches.js';
import type { ScoringParts } from './score-batch.js';
import { rowsOf } from './token-scorer.js';

/** Logits that a run returns at most, in elements (128 MiB in single precision). */
const LOGITS_LIMIT = 2 ** 25;

/** Keys and values copied for a run at most, in elements (256 MiB in single precision). */
const CACHE_LIMIT = 2 ** 26;

/** Largest number of tokens per run: more does not increase throughput. */
const TOKEN_LIMIT = 1024;

/** Finds the batch limits of a decoder; a few small runs test its KV cache. */
export async function findBatchLimits(parts: ScoringParts): Promise<BatchLimits> {
  const { decoder } = parts;
  const width = decoder.vocabularySize ?? (await decoder.run([Int32Array.of(0)])).dims.at(-1) ?? 1;
  return {
    hasCache: decoder.hasCache,
    continuesTogether: decoder.hasCache && (await continuesTogether(parts)),
    tokenCount: Math.max(1, Math.min(TOKEN_LIMIT, Math.floor(LOGITS_LIMIT / width))),
    cachedTokenCount: Math.max(1, Math.floor(CACHE_LIMIT / Math.max(1, decoder.cacheWidth))),
    rowCount: decoder.rowLimit,
  };
}

/** Two sequences whose second halves are read together must give the logits that they give when read at once. */
const PROBE = [Int32Array.of(1, 2, 3, 4), Int32Array.of(4, 3, 1, 2)];

/** Largest difference of logits, relative to their range, that rounding in half precision explains. */
const TOLERANCE = 0.02;

/**
 * Whether two sequences can continue from their caches together by two tokens. ONNX Runtime's GroupQueryAttention does
 * not support that on a CPU; other kernels are tested.
 */
async function continuesTogether({ decoder, scorer }: ScoringParts): Promise<boolean> {
  if (decoder.rowLimit < PROBE.length) return false;
  const whole = await readEvery(decoder, PROBE);
  const past = await decoder.extend(
    PROBE.map((tokens) => tokens.subarray(0, 2)),
    NO_PAST,
  );
  try {
    const rest = await readEvery(
      decoder,
      PROBE.map((tokens) => tokens.subarray(2)),
      past,
    );
    for (const row of PROBE.keys()) {
      const actual = await scorer.widen(rowsOf(rest, 2 * row, 2 * row + 2));
      if (!isAlike(actual, await scorer.widen(rowsOf(whole, 4 * row + 2, 4 * row + 4)))) return false;
    }
    return true;
  } catch (error) {
    if (error instanceof EngineError) return false;
    throw error;
  }
}

function isAlike(actual: Float32Array, expected: Float32Array): boolean {
  let [least, most, difference] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  for (const [at, value] of expected.entries()) {
    least = Math.min(least, value);
    most = Math.max(most, value);
    difference = Math.max(difference, Math.abs(value - actual[at]!));
  }
  return difference <= TOLERANCE * (most - least);
}
