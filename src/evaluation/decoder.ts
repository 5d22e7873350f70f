import { OptionError, UnsupportedModelError } from '../errors.js';
import type { Session, Tensor } from '../runtime/engine.js';
import { cachedFeeds, type Past } from './cached-feeds.js';
import { readModelInterface } from './model-interface.js';
import { isLogitsType, type LogitsTensor } from './token-scorer.js';

/** A decoder graph that runs over tokens, whatever its inputs are called. */
export interface Decoder {
  readonly vocabularySize: number | undefined;
  /** ONNX Runtime's name of the logits' element type. */
  readonly logitsType: string;
  readonly hasCache: boolean;
  /** Logits `[B, S, V]` of B token lists of one length, after what `past` holds of them. */
  run(tokens: readonly Int32Array[], past?: Past): Promise<LogitsTensor>;
  /** The same, and the past of the next run. Only for a decoder that has a cache. */
  advance(tokens: readonly Int32Array[], past: Past): Promise<{ readonly logits: LogitsTensor; readonly past: Past }>;
}

/** What there is before the first token. */
export const NO_PAST: Past = { length: 0, tensors: {} };

/**
 * Makes a decoder of a session.
 * @throws UnsupportedModelError for a graph that is not a text decoder's.
 */
export function createDecoder(session: Session, headSize?: number): Decoder {
  const { inputs, logits: declared, presentOf = new Map<string, string>() } = readModelInterface(session, headSize);
  const run = async (tokens: readonly Int32Array[], past: Past, fetches: readonly string[]) => {
    const results = await session.run(cachedFeeds(inputs, tokens, past), [declared.name, ...fetches]);
    return { logits: checkLogits(results[declared.name], declared.name, tokens.length), results };
  };
  const vocabularySize = declared.dims.at(-1);
  return {
    vocabularySize: typeof vocabularySize === 'number' ? vocabularySize : undefined,
    logitsType: declared.type,
    hasCache: presentOf.size > 0,
    run: async (tokens, past = NO_PAST) => (await run(tokens, past, [])).logits,
    async advance(tokens, past) {
      const { logits, results } = await run(tokens, past, [...presentOf.values()]);
      const tensors = Object.fromEntries([...presentOf].map(([input, output]) => [input, results[output]!]));
      return { logits, past: { length: past.length + (tokens[0]?.length ?? 0), tensors } };
    },
  };
}

/** Length of all sequences. @throws OptionError when they differ or are shorter than `minimum`. */
export function commonLength(sequences: readonly Int32Array[], minimum: number): number {
  const length = sequences[0]?.length ?? 0;
  if (length < minimum || sequences.some((sequence) => sequence.length !== length)) {
    const found = [...new Set(sequences.map((sequence) => sequence.length))].join(', ') || 'none';
    throw new OptionError(`sequences have lengths ${found}; expected one length for all, at least ${minimum}`);
  }
  return length;
}

function checkLogits(logits: Tensor | undefined, name: string, batchSize: number): LogitsTensor {
  if (logits === undefined || !isLogitsType(logits.type) || logits.dims.length !== 3 || logits.dims[0] !== batchSize) {
    throw new UnsupportedModelError(
      `output "${name}" is ${logits?.type ?? 'missing'} [${logits?.dims.join(', ') ?? ''}], expected float logits [${batchSize}, sequence, vocabulary]`,
    );
  }
  return logits as LogitsTensor;
}
