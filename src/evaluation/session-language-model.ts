import type { Items } from '../calibration/token-source.js';
import { OptionError } from '../errors.js';
import type { Engine, Session } from '../runtime/engine.js';
import { releaseTensor, releaseTensors } from '../runtime/tensor-memory.js';
import type { Bundle } from './bundle.js';
import {
  checkRowCount,
  commonLength,
  continuesTogether,
  createDecoder,
  type Decoder,
  type LogitsTensor,
  limitRows,
  logitRows,
  NO_PAST,
  readAllLogits,
} from './decoder.js';
import type { LanguageModel, Reader, SavedReader } from './language-model.js';
import type { CacheSizes } from './model-interface.js';
import { type BatchLimits, planBatches } from './plan-batches.js';
import { type ScoringParts, scoreBatch } from './score-batch.js';
import { createTokenScorer, type TokenScorer } from './token-scorer.js';

export interface LanguageModelOptions extends CacheSizes {
  /** Runs the scoring graph; usually the engine of `session`. */
  readonly engine: Engine;
  /** An entire decoder model; released together with the language model. */
  readonly session: Session;
}

/** Bundles that are sorted into batches at once. */
const CHUNK_LENGTH = 64;

/**
 * Creates a language model from a session of a decoder graph of any exporter: with or without mask, positions and cache,
 * caches `[B, K, P, D]` or packed `[2, B, K, P, D]`, single or half precision, any number of KV heads per block.
 *
 * @throws UnsupportedModelError for a graph that is not a text decoder's.
 */
export async function createLanguageModel({ engine, session, ...sizes }: LanguageModelOptions): Promise<LanguageModel> {
  const decoder = await limitRows(createDecoder(session, sizes));
  const scorer = await createTokenScorer(engine, decoder.logitsType);
  let limits: Promise<BatchLimits> | undefined;
  return {
    vocabularySize: decoder.vocabularySize,
    hasCache: decoder.hasCache,
    rowLimit: decoder.rowLimit,
    cacheWidth: decoder.cacheWidth,
    score: createScore(decoder, scorer),
    async readLogits(sequences) {
      const length = commonLength(sequences, 1);
      const logits = await readAllLogits(decoder, sequences);
      checkRowCount(logits.dims[1], length);
      return logits;
    },
    async *scoreBundles(bundles, isKnown = () => false) {
      let start = 0;
      for await (const chunk of chunksOf(bundles, CHUNK_LENGTH)) {
        limits ??= findBatchLimits({ decoder, scorer });
        for (const batch of planBatches(chunk, await limits)) {
          if (batch.members.every((member) => isKnown(start + member))) continue;
          const scores = await scoreBatch({ decoder, scorer }, batch, chunk);
          yield batch.members.map((member, at) => ({ index: start + member, sequences: scores[at]! }));
        }
        start += chunk.length;
      }
    },
    createReader: (from) =>
      decoder.hasCache ? createCachedReader(decoder, scorer, from) : createRereadingReader(decoder, scorer),
    async release() {
      await scorer.release();
      await session.release();
    },
  };
}

function createScore(decoder: Decoder, scorer: TokenScorer): LanguageModel['score'] {
  return async (sequences, firstScored) => {
    const length = commonLength(sequences, 2);
    checkFirstScored(firstScored, length);
    // Nothing is predicted from the last token, so the model need not read it.
    const logits = await readAllLogits(
      decoder,
      sequences.map((sequence) => sequence.subarray(0, -1)),
    );
    checkRowCount(logits.dims[1], length - 1);
    const scoredCount = length - firstScored;
    const scores = new Float32Array(sequences.length * scoredCount);
    for (const [index, sequence] of sequences.entries()) {
      const rows = logitRows(logits, index * (length - 1) + firstScored - 1, (index + 1) * (length - 1));
      scores.set(await scorer.score(rows, sequence.subarray(firstScored)), index * scoredCount);
    }
    releaseTensor(logits);
    return scores;
  };
}

/** A reader with a KV cache. */
function createCachedReader(decoder: Decoder, scorer: TokenScorer, from: SavedReader = NO_PAST): Reader {
  let past = from;
  const advance = async (tokens: readonly Int32Array[]) => {
    const before = past;
    const step = await decoder.advance(tokens, before);
    past = step.past;
    releaseTensors(before.tensors);
    return lastRows(step.logits, scorer);
  };
  return {
    async read(tokens) {
      const length = commonLength(tokens, 1);
      if (past.length === 0 || tokens.length === 1 || length === 1) return advance(tokens);
      // GroupQueryAttention on a CPU continues several sequences by one token at a time only.
      let logits: Float32Array = new Float32Array(0);
      for (let at = 0; at < length; at++) logits = await advance(tokens.map((part) => part.subarray(at, at + 1)));
      return logits;
    },
    save: () => past,
  };
}

/** A reader that reads everything again for every token, for graphs without a cache. */
function createRereadingReader(decoder: Decoder, scorer: TokenScorer): Reader {
  let history: readonly Int32Array[] = [];
  return {
    async read(tokens) {
      commonLength(tokens, 1);
      history = tokens.map((part, index) => Int32Array.from([...(history[index] ?? []), ...part]));
      return lastRows(await decoder.run(history), scorer);
    },
  };
}

/** Logits of the last position of every sequence, `[B, V]`. */
async function lastRows(logits: LogitsTensor, scorer: TokenScorer): Promise<Float32Array> {
  const [batchSize = 0, rowCount = 0, width = 0] = logits.dims;
  if (rowCount === 1) return scorer.widen(logitRows(logits, 0, batchSize));
  const last = new Float32Array(batchSize * width);
  for (let index = 0; index < batchSize; index++) {
    const row = (index + 1) * rowCount;
    last.set(await scorer.widen(logitRows(logits, row - 1, row)), index * width);
  }
  return last;
}

async function* chunksOf(bundles: Items<Bundle>, length: number): AsyncGenerator<Bundle[]> {
  let chunk: Bundle[] = [];
  for await (const bundle of bundles) {
    for (const { tokens, firstScored } of bundle) checkFirstScored(firstScored, tokens.length);
    chunk.push(bundle);
    if (chunk.length < length) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}

function checkFirstScored(firstScored: number, length: number): void {
  if (!Number.isInteger(firstScored) || firstScored < 1 || firstScored >= length) {
    throw new OptionError(`firstScored is ${firstScored}, expected 1 to ${length - 1}: a token needs one before it`);
  }
}

/** Largest number of logits that a run returns (128 MiB in single precision). */
const LOGITS_LIMIT = 2 ** 25;

/** Largest number of elements of keys and values copied for a run (256 MiB in single precision). */
const CACHE_LIMIT = 2 ** 26;

/** Largest number of tokens per run: more does not increase throughput. */
const TOKEN_LIMIT = 1024;

/** Finds the batch limits of a decoder; a few small runs test its KV cache. */
async function findBatchLimits({ decoder, scorer }: ScoringParts): Promise<BatchLimits> {
  const width = decoder.vocabularySize ?? (await decoder.run([Int32Array.of(0)])).dims.at(-1) ?? 1;
  return {
    hasCache: decoder.hasCache,
    continuesTogether: decoder.hasCache && (await continuesTogether(decoder, scorer.widen)),
    tokenCount: Math.max(1, Math.min(TOKEN_LIMIT, Math.floor(LOGITS_LIMIT / width))),
    cachedTokenCount: Math.max(1, Math.floor(CACHE_LIMIT / Math.max(1, decoder.cacheWidth))),
    rowCount: decoder.rowLimit,
  };
}
