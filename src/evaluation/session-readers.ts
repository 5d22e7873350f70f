import { releaseTensors } from '../runtime/tensor-memory.js';
import { commonLength, type Decoder, NO_PAST } from './decoder.js';
import type { Reader, SavedReader } from './language-model.js';
import { type LogitsTensor, rowsOf, type TokenScorer } from './token-scorer.js';

/** A reader with a KV cache. */
export function createCachedReader(decoder: Decoder, scorer: TokenScorer, from: SavedReader = NO_PAST): Reader {
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
export function createRereadingReader(decoder: Decoder, scorer: TokenScorer): Reader {
  let seen: readonly Int32Array[] = [];
  return {
    async read(tokens) {
      commonLength(tokens, 1);
      seen = tokens.map((part, index) => Int32Array.from([...(seen[index] ?? []), ...part]));
      return lastRows(await decoder.run(seen), scorer);
    },
  };
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
