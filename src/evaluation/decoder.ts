import { EngineError, OptionError, UnsupportedModelError } from '../errors.js';
import { isFullCache, type PresentOutput } from '../graph/cache-names.js';
import { type ModelInput, pastAxes } from '../graph/model-inputs.js';
import type { Session, Tensor, Tensors } from '../runtime/engine.js';
import { addToPast } from './add-to-past.js';
import { cachedFeeds, type Past } from './cached-feeds.js';
import { type CacheSizes, readModelInterface } from './model-interface.js';
import { isLogitsType, type LogitsTensor } from './token-scorer.js';

/** A decoder graph, independent of the names of its inputs. */
export interface Decoder {
  readonly vocabularySize: number | undefined;
  /** ONNX Runtime's name of the logits' element type. */
  readonly logitsType: string;
  readonly hasCache: boolean;
  /** Whether the graph has an input for positions. */
  readonly hasPositions: boolean;
  /** Whether the graph returns logits only for the last token. */
  readonly givesLast: boolean;
  /** Logits `[B, S, V]` of B token lists of one length that continue `past`. */
  run(tokens: readonly Int32Array[], past?: Past): Promise<LogitsTensor>;
  /**
   * As `run`, and the past of the next run; needs a KV cache. The given past must not be used afterwards, since it may
   * be extended in place.
   */
  advance(tokens: readonly Int32Array[], past: Past): Promise<{ readonly logits: LogitsTensor; readonly past: Past }>;
  /** As `advance`, without logits; needs a KV cache. */
  extend(tokens: readonly Int32Array[], past: Past): Promise<Past>;
  /** Largest batch size of the graph; Infinity if open. */
  readonly rowLimit: number;
  /** Elements of the KV cache per token of one sequence, over all blocks. */
  readonly cacheWidth: number;
}

/** The cache before the first token. */
export const NO_PAST: Past = { length: 0, tensors: {} };

/**
 * Makes a decoder of a session.
 * @throws UnsupportedModelError for a graph that is not a text decoder's.
 */
export function createDecoder(session: Session, sizes?: CacheSizes): Decoder {
  const { inputs, logits: declared, presentOf = new Map<string, PresentOutput>() } = readModelInterface(session, sizes);
  const presents = inputs.flatMap((input) => {
    const present = presentOf.get(input.name);
    return present === undefined ? [] : [{ input, ...present }];
  });
  const run = async (tokens: readonly Int32Array[], past: Past, fetches: readonly string[]) => {
    const results = await session
      .run(cachedFeeds(inputs, tokens, past), [declared.name, ...fetches])
      .catch((cause) => explain(cause, inputs));
    return { logits: checkLogits(results[declared.name], declared.name, tokens.length), results };
  };
  const following = (tokens: readonly Int32Array[], past: Past, results: Tensors): Past => ({
    length: past.length + (tokens[0]?.length ?? 0),
    tensors: Object.assign(
      {},
      ...presents.map(({ input, name, isAdded }) =>
        isAdded ? addToPast(past, input, results[name]!) : { [input.name]: results[name]! },
      ),
    ),
  });
  const fetches = presents.map(({ name }) => name);
  const [rows, length] = inputs.find(({ role }) => role === 'tokens')?.dims ?? [];
  const vocabularySize = declared.dims.at(-1);
  return {
    vocabularySize: typeof vocabularySize === 'number' ? vocabularySize : undefined,
    logitsType: declared.type,
    hasCache: presentOf.size > 0,
    hasPositions: inputs.some(({ role }) => role === 'positions'),
    givesLast: declared.dims.length === 3 && declared.dims[1] === 1 && length !== 1,
    run: async (tokens, past = NO_PAST) => (await run(tokens, past, [])).logits,
    async advance(tokens, past) {
      const { logits, results } = await run(tokens, past, fetches);
      return { logits, past: following(tokens, past, results) };
    },
    async extend(tokens, past) {
      const feeds = cachedFeeds(inputs, tokens, past);
      for (const { name, role } of inputs) {
        const feed = feeds[name];
        if (role === 'logitsToKeep' && feed !== undefined) feeds[name] = ones(feed);
      }
      return following(tokens, past, await session.run(feeds, fetches));
    },
    rowLimit: typeof rows === 'number' ? rows : Number.POSITIVE_INFINITY,
    cacheWidth: inputs.reduce((sum, input) => sum + (isFullCache(input) ? elementsPerToken(input) : 0), 0),
  };
}

/** Explains a failed run of a graph that does not declare its head size. */
function explain(cause: unknown, inputs: readonly ModelInput[]): never {
  const open = inputs.find(({ role, dims }) => role === 'past' && typeof dims.at(-1) !== 'number');
  if (!(cause instanceof EngineError) || open === undefined) throw cause;
  throw new EngineError(
    `the cache "${open.name}" [${open.dims.join(', ')}] does not declare the head size, which the model needs; ` +
      `set it next to the model: head_dim in config.json, or head_size in genai_config.json (${cause.message})`,
    { cause },
  );
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

/** @throws UnsupportedModelError when a model returns logits of fewer tokens than it read. */
export function checkRowCount(found: number | undefined, expected: number): void {
  if (found !== expected) {
    throw new UnsupportedModelError(
      `the model read ${expected} tokens and gave logits for ${found ?? 0}; scoring needs an export that keeps all of them`,
    );
  }
}

function ones({ type, dims }: Tensor): Tensor {
  return type === 'int32'
    ? { type, dims, data: Int32Array.of(1) }
    : { type: 'int64', dims, data: BigInt64Array.of(1n) };
}

function elementsPerToken(input: ModelInput): number {
  const { batch, sequence } = pastAxes(input);
  const sizes = input.dims.filter((_, axis) => axis !== batch && axis !== sequence);
  return sizes.reduce<number>((product, size) => product * (typeof size === 'number' ? size : 1), 1);
}

function checkLogits(logits: Tensor | undefined, name: string, batchSize: number): LogitsTensor {
  if (logits === undefined || !isLogitsType(logits.type) || logits.dims.length !== 3 || logits.dims[0] !== batchSize) {
    throw new UnsupportedModelError(
      `output "${name}" is ${logits?.type ?? 'missing'} [${logits?.dims.join(', ') ?? ''}], expected float logits [${batchSize}, sequence, vocabulary]`,
    );
  }
  return logits as LogitsTensor;
}
