import { OptionError, UnsupportedModelError } from '../errors.js';
import type { Engine, Session, Tensor } from '../runtime/engine.js';
import { cachedFeeds, type Past } from './cached-feeds.js';
import type { LanguageModel, Reader } from './language-model.js';
import { readModelInterface } from './model-interface.js';
import { createTokenScorer, isLogitsType, type LogitsTensor, rowsOf, type TokenScorer } from './token-scorer.js';

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
 * Sequences of one call have one length, so nothing is ever padded.
 *
 * @throws UnsupportedModelError for a graph that is not a text decoder's.
 */
export async function createLanguageModel({ engine, session, headSize }: LanguageModelOptions): Promise<LanguageModel> {
  const { inputs, logits: declared, presentOf } = readModelInterface(session, headSize);
  const scorer = await createTokenScorer(engine, declared.type);
  const vocabularySize = declared.dims.at(-1);

  const run = async (tokens: readonly Int32Array[], past?: Past) => {
    const presents = past === undefined || presentOf === undefined ? [] : [...presentOf.values()];
    const results = await session.run(cachedFeeds(inputs, tokens, past), [declared.name, ...presents]);
    return { logits: checkLogits(results[declared.name], declared.name, tokens), results };
  };

  const readAgain = (): Reader => {
    let seen: readonly Int32Array[] = [];
    return {
      async read(tokens) {
        checkEqualLengths(tokens, 1);
        seen = tokens.map((part, index) => concatenate(seen[index], part));
        return lastRows((await run(seen)).logits, scorer);
      },
    };
  };

  const readOn = (names: ReadonlyMap<string, string>): Reader => {
    let past: Past = { length: 0, tensors: {} };
    const advance = async (tokens: readonly Int32Array[]) => {
      const { logits, results } = await run(tokens, past);
      const entries = [...names].map(([input, output]) => [input, results[output]!] as const);
      past = { length: past.length + (tokens[0]?.length ?? 0), tensors: Object.fromEntries(entries) };
      return lastRows(logits, scorer);
    };
    return {
      async read(tokens) {
        const length = checkEqualLengths(tokens, 1);
        if (past.length === 0 || tokens.length === 1 || length === 1) return advance(tokens);
        // GroupQueryAttention on a CPU continues several sequences by one token at a time only.
        let logits: Float32Array = new Float32Array(0);
        for (let at = 0; at < length; at++) logits = await advance(tokens.map((part) => part.subarray(at, at + 1)));
        return logits;
      },
    };
  };

  return {
    vocabularySize: typeof vocabularySize === 'number' ? vocabularySize : undefined,
    hasCache: presentOf !== undefined,
    async score(sequences, firstScored) {
      const length = checkEqualLengths(sequences, 2);
      if (!Number.isInteger(firstScored) || firstScored < 1 || firstScored >= length) {
        throw new OptionError(
          `firstScored is ${firstScored}, expected 1 to ${length - 1}: a token needs one before it`,
        );
      }
      // Nothing is predicted from the last token, so the model need not read it.
      const { logits } = await run(sequences.map((sequence) => sequence.subarray(0, -1)));
      const rowCount = logits.dims[1] ?? 0;
      if (rowCount !== length - 1) {
        throw new UnsupportedModelError(
          `the model read ${length - 1} tokens and gave logits for ${rowCount}; scoring needs an export that keeps all of them`,
        );
      }
      const scores = new Float32Array(sequences.length * (length - firstScored));
      for (const [index, sequence] of sequences.entries()) {
        const rows = rowsOf(logits, index * rowCount + firstScored - 1, (index + 1) * rowCount);
        scores.set(await scorer.score(rows, sequence.subarray(firstScored)), index * (length - firstScored));
      }
      return scores;
    },
    createReader: () => (presentOf === undefined ? readAgain() : readOn(presentOf)),
    async release() {
      await scorer.release();
      await session.release();
    },
  };
}

function checkEqualLengths(sequences: readonly Int32Array[], minimum: number): number {
  const length = sequences[0]?.length ?? 0;
  if (length < minimum || sequences.some((sequence) => sequence.length !== length)) {
    const found = [...new Set(sequences.map((sequence) => sequence.length))].join(', ') || 'none';
    throw new OptionError(`sequences have lengths ${found}; expected one length for all, at least ${minimum}`);
  }
  return length;
}

function checkLogits(logits: Tensor | undefined, name: string, tokens: readonly Int32Array[]): LogitsTensor {
  if (
    logits === undefined ||
    !isLogitsType(logits.type) ||
    logits.dims.length !== 3 ||
    logits.dims[0] !== tokens.length
  ) {
    throw new UnsupportedModelError(
      `output "${name}" is ${logits?.type ?? 'missing'} [${logits?.dims.join(', ') ?? ''}], expected float logits [${tokens.length}, sequence, vocabulary]`,
    );
  }
  return logits as LogitsTensor;
}

/** Logits of the last position of every sequence, `[B, V]`. */
async function lastRows(logits: LogitsTensor, scorer: TokenScorer): Promise<Float32Array> {
  const [batchSize = 0, rowCount = 0, width = 0] = logits.dims;
  if (rowCount === 1) return scorer.widen(rowsOf(logits, 0, batchSize));
  const last = new Float32Array(batchSize * width);
  for (let index = 0; index < batchSize; index++) {
    const row = (index + 1) * rowCount;
    last.set(await scorer.widen(rowsOf(logits, row - 1, row)), index * width);
  }
  return last;
}

function concatenate(head: Int32Array | undefined, tail: Int32Array): Int32Array {
  const joined = new Int32Array((head?.length ?? 0) + tail.length);
  if (head !== undefined) joined.set(head);
  joined.set(tail, head?.length ?? 0);
  return joined;
}
