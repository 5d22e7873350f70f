import { EngineError, OptionError, UnsupportedModelError } from '../errors.js';
import { isFullCache, type PresentOutput } from '../onnx/cache-names.js';
import { type ModelInput, pastAxes } from '../onnx/model-inputs.js';
import type { Session, Tensor, Tensors } from '../runtime/engine.js';
import { releaseTensor, releaseTensors } from '../runtime/tensor-memory.js';
import { addToPast } from './add-to-past.js';
import { cachedFeeds, gatherPast, type Past } from './cached-feeds.js';
import { type CacheSizes, readModelInterface } from './model-interface.js';

/** Logits as a graph returns them. */
export type LogitsTensor = Extract<Tensor, { readonly type: 'float32' | 'float16' }>;

/** Whether logits of this type can be read. */
export const isLogitsType = (type: string): type is LogitsTensor['type'] => type === 'float32' || type === 'float16';

/** Rows `start` to `end` (exclusive) of a matrix of logits, without copying. */
export function logitRows(logits: LogitsTensor, start: number, end: number): LogitsTensor {
  const width = logits.dims.at(-1) ?? 0;
  const dims = [end - start, width];
  return logits.type === 'float32'
    ? { type: 'float32', dims, data: logits.data.subarray(start * width, end * width) }
    : { type: 'float16', dims, data: logits.data.subarray(start * width, end * width) };
}

/** A decoder graph, independent of the names of its inputs. */
export interface Decoder {
  readonly vocabularySize: number | undefined;
  /** ONNX Runtime's name of the logits' element type. */
  readonly logitsType: string;
  readonly hasCache: boolean;
  /** Whether the graph has an input for positions. */
  readonly hasPositions: boolean;
  /** Whether the graph returns logits only for the last token. */
  readonly returnsLastOnly: boolean;
  /** Logits `[B, S, V]` of B token lists of one length that continue `past`. */
  run(tokens: readonly Int32Array[], past?: Past): Promise<LogitsTensor>;
  /**
   * As `run`, and the past of the next run; needs a KV cache. The given past must not be used afterwards, since it may
   * be extended in place.
   */
  advance(tokens: readonly Int32Array[], past: Past): Promise<{ readonly logits: LogitsTensor; readonly past: Past }>;
  /** As `advance`, without logits; needs a KV cache. */
  extend(tokens: readonly Int32Array[], past: Past): Promise<Past>;
  /** Largest batch size of the graph; Infinity if it is not fixed. */
  readonly rowLimit: number;
  /** Elements of the KV cache per token of one sequence, over all blocks. */
  readonly cacheWidth: number;
}

/** The cache before the first token. */
export const NO_PAST: Past = { length: 0, tensors: {} };

/**
 * Creates a decoder from a session.
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
  const nextPast = (tokens: readonly Int32Array[], past: Past, results: Tensors): Past => ({
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
    returnsLastOnly: declared.dims.length === 3 && declared.dims[1] === 1 && length !== 1,
    run: async (tokens, past = NO_PAST) => (await run(tokens, past, [])).logits,
    async advance(tokens, past) {
      const { logits, results } = await run(tokens, past, fetches);
      return { logits, past: nextPast(tokens, past, results) };
    },
    async extend(tokens, past) {
      const feeds = cachedFeeds(inputs, tokens, past);
      for (const { name, role } of inputs) {
        const feed = feeds[name];
        if (role === 'logitsToKeep' && feed !== undefined) feeds[name] = ones(feed);
      }
      return nextPast(tokens, past, await session.run(feeds, fetches));
    },
    rowLimit: typeof rows === 'number' ? rows : Number.POSITIVE_INFINITY,
    cacheWidth: inputs.reduce((sum, input) => sum + (isFullCache(input) ? elementsPerToken(input) : 0), 0),
  };
}

/**
 * Logits `[B, S, V]` of every token: token by token with the KV cache for graphs that return only the last token's
 * logits, and in smaller batches where the batch size is limited.
 */
export async function readAllLogits(
  decoder: Decoder,
  tokens: readonly Int32Array[],
  past: Past = NO_PAST,
): Promise<LogitsTensor> {
  if (tokens.length <= decoder.rowLimit) return readBatch(decoder, tokens, past);
  const parts: LogitsTensor[] = [];
  for (let start = 0; start < tokens.length; start += decoder.rowLimit) {
    const part = tokens.slice(start, start + decoder.rowLimit);
    const rows = part.map((_, at) => start + at);
    parts.push(await readBatch(decoder, part, gatherPast(past, rows, tokens.length)));
  }
  return joinLogits(parts, 0);
}

async function readBatch(decoder: Decoder, tokens: readonly Int32Array[], past: Past): Promise<LogitsTensor> {
  const length = commonLength(tokens, 1);
  if (!decoder.returnsLastOnly || !decoder.hasCache || length === 1) return decoder.run(tokens, past);
  const steps: LogitsTensor[] = [];
  for (let at = 0, before = past; at < length; at++) {
    const step = await decoder.advance(
      tokens.map((sequence) => sequence.subarray(at, at + 1)),
      before,
    );
    if (before !== past) releaseTensors(before.tensors);
    if (at === length - 1) releaseTensors(step.past.tensors);
    before = step.past;
    steps.push(step.logits);
  }
  return joinLogits(steps, 1);
}

/** Concatenates logits along sequences (0) or tokens (1); the parts are released. */
function joinLogits(parts: readonly LogitsTensor[], axis: 0 | 1): LogitsTensor {
  const [{ type, dims, data: first }] = parts as [LogitsTensor];
  const outer = axis === 1 ? dims[0]! : 1;
  const length = parts.reduce((sum, { data }) => sum + data.length, 0);
  const joined = new (first.constructor as new (length: number) => typeof first)(length);
  let end = 0;
  for (let row = 0; row < outer; row++) {
    for (const { data } of parts) {
      const size = data.length / outer;
      joined.set(data.subarray(row * size, (row + 1) * size) as never, end);
      end += size;
    }
  }
  parts.forEach(releaseTensor);
  const size = parts.reduce((sum, part) => sum + part.dims[axis]!, 0);
  return { type, dims: dims.with(axis, size), data: joined } as LogitsTensor;
}

/**
 * The decoder with its actual largest batch size, found by a trial run. A graph that computes positions itself may
 * support only one sequence, as exports by torch at opset 23 do.
 */
export async function limitRows(decoder: Decoder): Promise<Decoder> {
  if (decoder.hasPositions || Number.isFinite(decoder.rowLimit)) return decoder;
  try {
    releaseTensor(await decoder.run([Int32Array.of(0), Int32Array.of(0)]));
    return decoder;
  } catch (error) {
    // The engine's error, or this library's wrapper of it.
    const isRefused = [error, Object(error).cause].some((thrown) => thrown instanceof EngineError);
    if (isRefused) return { ...decoder, rowLimit: 1 };
    throw error;
  }
}

/** Test sequences: with their second halves read from the cache in one batch, the logits must be those of one run. */
const PROBE = [Int32Array.of(1, 2, 3, 4), Int32Array.of(4, 3, 1, 2)];

/** Largest difference of logits, relative to their range, that rounding in half precision explains. */
const TOLERANCE = 0.02;

/**
 * Whether two sequences can continue from their caches together by two tokens. ONNX Runtime's GroupQueryAttention does
 * not support that on a CPU; other kernels are tested.
 * @param widen Logits in single precision.
 */
export async function continuesTogether(
  decoder: Decoder,
  widen: (logits: LogitsTensor) => Promise<Float32Array>,
): Promise<boolean> {
  if (decoder.rowLimit < PROBE.length) return false;
  const whole = await readAllLogits(decoder, PROBE);
  const past = await decoder.extend(
    PROBE.map((tokens) => tokens.subarray(0, 2)),
    NO_PAST,
  );
  try {
    const rest = await readAllLogits(
      decoder,
      PROBE.map((tokens) => tokens.subarray(2)),
      past,
    );
    for (const row of PROBE.keys()) {
      const actual = await widen(logitRows(rest, 2 * row, 2 * row + 2));
      if (!isClose(actual, await widen(logitRows(whole, 4 * row + 2, 4 * row + 4)))) return false;
    }
    return true;
  } catch (error) {
    if (error instanceof EngineError) return false;
    throw error;
  }
}

function isClose(actual: Float32Array, expected: Float32Array): boolean {
  let [least, most, difference] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  for (const [at, value] of expected.entries()) {
    least = Math.min(least, value);
    most = Math.max(most, value);
    difference = Math.max(difference, Math.abs(value - actual[at]!));
  }
  return difference <= TOLERANCE * (most - least);
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

/** @throws UnsupportedModelError when a model returned logits for fewer tokens than it read. */
export function checkRowCount(found: number | undefined, expected: number): void {
  if (found !== expected) {
    throw new UnsupportedModelError(
      `the model read ${expected} tokens and returned logits for ${found ?? 0}; scoring needs an export that returns them for all tokens`,
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
