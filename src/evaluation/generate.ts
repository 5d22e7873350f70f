import { checkTokenIds, type TokenIds } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { counted } from '../counted.js';
import { OptionError } from '../errors.js';
import { createRandom, createStream, type Random } from '../linalg/random.js';
import type { JobControl } from '../progress.js';
import type { LanguageModel, SavedReader } from './language-model.js';
import { createTokenPicker, type SamplingOptions } from './sample-token.js';

export interface GenerationOptions extends SamplingOptions {
  /** Largest number of tokens to generate, at least 1. Default 128. */
  readonly newTokens?: number;
  /** Longest sequence that the model reads; the text ends there. Default: no limit. */
  readonly contextLength?: number | undefined;
  /** Tokens that end the text; the end token is not returned. Default none. */
  readonly stopTokenIds?: readonly number[];
  /** Seeds the draws at temperatures above 0. Default 0. */
  readonly seed?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Continues a prompt token by token.
 *
 * @param promptIds At least one token; the model's BOS for an empty prompt.
 * @throws OptionError for an empty prompt or one that is too long, ids outside the vocabulary, or options out of range.
 */
export async function* generate(
  model: LanguageModel,
  promptIds: TokenIds,
  options: GenerationOptions = {},
): AsyncGenerator<number> {
  const { newTokens = 128, contextLength = Number.POSITIVE_INFINITY, stopTokenIds = [], seed = 0, signal } = options;
  checkCount('newTokens', newTokens);
  const pick = createTokenPicker(options);
  const random = createRandom(seed);
  const reader = model.createReader();
  let next = checkPrompt(model, promptIds, contextLength);
  // The last token is not read.
  const maxTokens = Math.min(newTokens, contextLength - next.length + 1);
  for (let generated = 0; generated < maxTokens; generated++) {
    signal?.throwIfAborted();
    const token = pick(await reader.read([next]), random);
    if (stopTokenIds.includes(token)) return;
    yield token;
    next = Int32Array.of(token);
  }
}

export interface TextGenerationOptions extends GenerationOptions {
  readonly tokenizer: Tokenizer;
  /** Encoded with the special tokens that the tokenizer puts around a text; empty starts from BOS. */
  readonly prompt: string;
}

/**
 * Continues a text; stops at the tokenizer's EOS unless `stopTokenIds` is given.
 * @returns Text after the prompt, without special tokens.
 */
export async function generateText(model: LanguageModel, options: TextGenerationOptions): Promise<string> {
  const { tokenizer } = options;
  const { eosTokenId } = tokenizer;
  const stopTokenIds = options.stopTokenIds ?? (eosTokenId === undefined ? [] : [eosTokenId]);
  const tokens: number[] = [];
  for await (const token of generate(model, encodePrompt(options), { ...options, stopTokenIds })) tokens.push(token);
  return tokenizer.decode(tokens, { skipSpecialTokens: true });
}

/** Encodes a prompt; an empty one becomes BOS. @throws OptionError for no tokens, or more than the model reads. */
export function encodePrompt({
  tokenizer,
  prompt,
  contextLength,
}: Pick<TextGenerationOptions, 'tokenizer' | 'prompt' | 'contextLength'>): Int32Array {
  const { bosTokenId } = tokenizer;
  const encoded = tokenizer.encode(prompt, { addSpecialTokens: true });
  const promptIds = encoded.length === 0 && bosTokenId !== undefined ? Int32Array.of(bosTokenId) : encoded;
  checkPromptLength(promptIds, contextLength);
  return promptIds;
}

export interface BatchGenerationOptions extends SamplingOptions, JobControl {
  /** Tokens that every sequence starts with, at least one (such as the model's BOS). */
  readonly promptIds: TokenIds;
  /** Sequences to generate, at least 1. */
  readonly count: number;
  /** Tokens per sequence, the prompt included. */
  readonly length: number;
  /** Default 1: the model's own distribution. */
  readonly temperature?: number;
  /** Default 0. Each sequence has its own random stream, so that the batch size does not change it. */
  readonly seed?: number;
  /** Stream index of the first sequence: n continues after a call for n sequences. Default 0. */
  readonly firstSequence?: number;
  /**
   * Sequences generated together, at least 1; their caches are in memory at once. Default 16, or the model's
   * largest batch size if that is less.
   */
  readonly batchSize?: number;
  /** State of an earlier call with the same options, from which this one continues. Default: the prompt. */
  readonly from?: SavedBatch | undefined;
  /** Called after each token of a batch with the state that a later call can continue from; it must be read before this returns. */
  readonly onStep?: ((save: () => SavedBatch | undefined) => Promise<void>) | undefined;
}

/** Unfinished sequences of one batch. */
export interface SavedBatch {
  /** Stream index of the first one. */
  readonly first: number;
  /** Tokens of each so far. */
  readonly sequences: readonly Int32Array[];
  readonly reader: SavedReader;
}

/**
 * Generates many sequences of one length from the same prompt, such as calibration text. End-of-text tokens do not end
 * a sequence.
 *
 * @returns `count` sequences of `length` token ids, prompt included.
 * @throws OptionError for an empty prompt, a length that leaves nothing to generate, or options out of range.
 */
export async function generateBatch(model: LanguageModel, options: BatchGenerationOptions): Promise<Int32Array[]> {
  const { count, length, temperature = 1, seed = 0, firstSequence = 0, onProgress, signal } = options;
  const batchSize = options.batchSize ?? Math.min(16, model.rowLimit ?? Number.POSITIVE_INFINITY);
  const prompt = checkPrompt(model, options.promptIds);
  checkCount('count', count);
  checkCount('batchSize', batchSize);
  if (!Number.isInteger(firstSequence) || firstSequence < 0) {
    throw new OptionError(`firstSequence is ${firstSequence}, expected an integer of at least 0`);
  }
  if (!Number.isInteger(length) || length <= prompt.length) {
    throw new OptionError(
      `length is ${length}, expected an integer above the prompt's ${counted(prompt.length, 'token')}`,
    );
  }
  const pick = createTokenPicker({ ...options, temperature });
  const sequences = Array.from({ length: count }, () => {
    const sequence = new Int32Array(length);
    sequence.set(prompt);
    return sequence;
  });
  const perSequence = length - prompt.length;
  for (let start = 0; start < count; start += batchSize) {
    const batch = sequences.slice(start, start + batchSize);
    const first = firstSequence + start;
    await fillBatch(model, batch, {
      first,
      promptLength: prompt.length,
      pick,
      signal,
      onStep: options.onStep,
      randoms: batch.map((_, index) => createStream(seed, first + index)),
      from: isStartOf(options.from, first, batch) ? options.from : undefined,
      onToken: (generated) =>
        onProgress?.({
          stage: 'generate',
          done: start * perSequence + batch.length * generated,
          total: count * perSequence,
        }),
    });
  }
  return sequences;
}

const isStartOf = (saved: SavedBatch | undefined, first: number, batch: readonly Int32Array[]): boolean =>
  saved?.first === first && saved.sequences.length === batch.length;

interface BatchGeneration extends Pick<BatchGenerationOptions, 'from' | 'onStep' | 'signal'> {
  readonly first: number;
  readonly promptLength: number;
  readonly pick: ReturnType<typeof createTokenPicker>;
  /** One generator per sequence, with one number per token. */
  readonly randoms: readonly Random[];
  /** @param generated tokens of each sequence after the prompt */
  readonly onToken: (generated: number) => void;
}

/** Fills sequences of one length after their prompt. */
async function fillBatch(model: LanguageModel, batch: readonly Int32Array[], given: BatchGeneration): Promise<void> {
  const { first, promptLength, pick, randoms, from, onToken, onStep, signal } = given;
  const start = from === undefined ? promptLength : from.sequences[0]!.length;
  for (const [index, sequence] of batch.entries()) {
    if (from) sequence.set(from.sequences[index]!);
    for (let at = promptLength; at < start; at++) randoms[index]!();
  }
  const reader = model.createReader(from?.reader);
  let readEnd = from?.reader.length ?? 0;
  for (let position = start; position < batch[0]!.length; position++) {
    signal?.throwIfAborted();
    const logits = await reader.read(batch.map((sequence) => sequence.subarray(readEnd, position)));
    const width = logits.length / batch.length;
    for (const [index, sequence] of batch.entries()) {
      sequence[position] = pick(logits.subarray(index * width, (index + 1) * width), randoms[index]!);
    }
    readEnd = position;
    onToken(position + 1 - promptLength);
    await onStep?.(() => {
      const saved = reader.save?.();
      return saved && { first, sequences: batch.map((sequence) => sequence.subarray(0, position + 1)), reader: saved };
    });
  }
}

function checkPrompt(model: LanguageModel, promptIds: TokenIds, contextLength?: number): Int32Array {
  const vocabularySize = model.vocabularySize ?? Number.POSITIVE_INFINITY;
  const prompt = checkTokenIds(promptIds, { vocabularySize, place: 'the prompt' });
  checkPromptLength(prompt, contextLength);
  return prompt;
}

/** @throws OptionError */
function checkPromptLength({ length }: Int32Array, contextLength = Number.POSITIVE_INFINITY): void {
  if (length === 0)
    throw new OptionError("the prompt has no tokens, expected at least one; start from the model's BOS token");
  if (length > contextLength)
    throw new OptionError(
      `the prompt has ${counted(length, 'token')}, but the model reads at most ${contextLength}; shorten it`,
    );
}

/** @throws OptionError */
export function checkCount(name: string, value: number, least = 1): void {
  if (Number.isInteger(value) && value >= least) return;
  throw new OptionError(`${name} is ${value}, expected an integer of at least ${least}`);
}
