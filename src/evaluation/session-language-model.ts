import { OptionError, UnsupportedModelError } from '../errors.js';
import type { Engine, Session } from '../runtime/engine.js';
import { commonLength, createDecoder, type Decoder, NO_PAST } from './decoder.js';
import type { LanguageModel } from './language-model.js';
import { createCachedReader, createRereadingReader } from './session-readers.js';
import { createTokenScorer, rowsOf, type TokenScorer } from './token-scorer.js';

export interface LanguageModelOptions {
  /** Runs the small graph that scores logits; usually the one that made `session`. */
  readonly engine: Engine;
  /** A whole decoder model; released together with the language model. */
  readonly session: Session;
  /** Size of a head, for graphs that leave it open (`config.json` tells). */
  readonly headSize?: number;
}

/**
 * Makes a language model of a session over a decoder graph, whatever its exporter: with or without mask, positions and
 * cache, caches `[B, K, P, D]` or packed `[2, B, K, P, D]`, single or half precision, any number of KV heads per block.
 *
 * @throws UnsupportedModelError for a graph that is not a text decoder's.
 */
export async function createLanguageModel({ engine, session, headSize }: LanguageModelOptions): Promise<LanguageModel> {
  const decoder = createDecoder(session, headSize);
  const scorer = await createTokenScorer(engine, decoder.logitsType);
  const score = createScore(decoder, scorer);
  return {
    vocabularySize: decoder.vocabularySize,
    hasCache: decoder.hasCache,
    score,
    async scoreContinuations(context, continuations) {
      if (context.length === 0 || continuations.some(({ length }) => length === 0)) {
        throw new OptionError('a context or continuation has no tokens, expected at least one in each');
      }
      return decoder.hasCache
        ? continueCached({ decoder, scorer }, context, continuations)
        : Promise.all(continuations.map((tail) => score([Int32Array.from([...context, ...tail])], context.length)));
    },
    createReader: () => (decoder.hasCache ? createCachedReader : createRereadingReader)(decoder, scorer),
    async release() {
      await scorer.release();
      await session.release();
    },
  };
}

function createScore(decoder: Decoder, scorer: TokenScorer): LanguageModel['score'] {
  return async (sequences, firstScored) => {
    const length = commonLength(sequences, 2);
    if (!Number.isInteger(firstScored) || firstScored < 1 || firstScored >= length) {
      throw new OptionError(`firstScored is ${firstScored}, expected 1 to ${length - 1}: a token needs one before it`);
    }
    // Nothing is predicted from the last token, so the model need not read it.
    const logits = await decoder.run(sequences.map((sequence) => sequence.subarray(0, -1)));
    checkRowCount(logits.dims[1], length - 1);
    const scoredCount = length - firstScored;
    const scores = new Float32Array(sequences.length * scoredCount);
    for (const [index, sequence] of sequences.entries()) {
      const rows = rowsOf(logits, index * (length - 1) + firstScored - 1, (index + 1) * (length - 1));
      scores.set(await scorer.score(rows, sequence.subarray(firstScored)), index * scoredCount);
    }
    return scores;
  };
}

interface Parts {
  readonly decoder: Decoder;
  readonly scorer: TokenScorer;
}

/** Reads the context once, and every continuation after its keys and values. */
async function continueCached(
  { decoder, scorer }: Parts,
  context: Int32Array,
  continuations: readonly Int32Array[],
): Promise<Float32Array[]> {
  const { logits, past } = await decoder.advance([context], NO_PAST);
  const rowCount = logits.dims[1] ?? 0;
  const last = rowsOf(logits, rowCount - 1, rowCount);
  const all: Float32Array[] = [];
  for (const continuation of continuations) {
    const scores = new Float32Array(continuation.length);
    scores.set(await scorer.score(last, continuation.subarray(0, 1)));
    if (continuation.length > 1) {
      const following = await decoder.run([continuation.subarray(0, -1)], past);
      checkRowCount(following.dims[1], continuation.length - 1);
      const rows = rowsOf(following, 0, continuation.length - 1);
      scores.set(await scorer.score(rows, continuation.subarray(1)), 1);
    }
    all.push(scores);
  }
  return all;
}

function checkRowCount(found: number | undefined, expected: number): void {
  if (found !== expected) {
    throw new UnsupportedModelError(
      `the model read ${expected} tokens and gave logits for ${found ?? 0}; scoring needs an export that keeps all of them`,
    );
  }
}
