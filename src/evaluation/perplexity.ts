import { sha256, sha256OfTokens } from '../calibration/sha256.js';
import { checkTokenIds, type TokenIds } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { NumericalError, OptionError } from '../errors.js';
import type { JobControl } from '../progress.js';
import type { LanguageModel } from './language-model.js';

export interface PerplexityOptions extends JobControl {
  /** Tokens of text per window, at least 2. Default 512. */
  readonly windowLength?: number;
  /**
   * Tokens from one window to the next, 1 to `windowLength`. With less than `windowLength` windows overlap, and only the
   * tokens that no window before has scored are scored, with at least `windowLength - stride` tokens of context.
   * Default: `windowLength`.
   */
  readonly stride?: number;
  /** Token put before every window, so that its first token is scored too. Default none. */
  readonly bosTokenId?: number;
  /** Windows to score, from the start. Default: all, the last one as short as the text leaves it. */
  readonly windowCount?: number;
  /** Windows that run together, at least 1. Default 1: logits of a window are large. */
  readonly batchSize?: number;
}

/** What a perplexity was measured on; two figures compare only when these agree. */
export interface PerplexityProtocol {
  /** SHA-256 of the token ids given (32-bit little-endian), and of the text they came from when that is known. */
  readonly tokensSha256: string;
  readonly textSha256?: string;
  readonly windowLength: number;
  readonly stride: number;
  /** Absent when windows start with the text itself and their first token is not scored. */
  readonly bosTokenId?: number;
  readonly windowCount: number;
  /** Tokens scored. */
  readonly tokenCount: number;
}

export interface PerplexityResult {
  /** exp of the mean negative log-likelihood. */
  readonly perplexity: number;
  /** Mean over the scored tokens, in nats. */
  readonly negativeLogLikelihood: number;
  readonly tokenCount: number;
  readonly windowCount: number;
  readonly protocol: PerplexityProtocol;
}

/**
 * Perplexity of a model on a token sequence, window by window; sums in double precision.
 *
 * @throws OptionError for too few tokens, ids outside the vocabulary, or options out of range.
 * @throws NumericalError when the model's logits are not numbers.
 * @see https://huggingface.co/docs/transformers/perplexity for the strided protocol
 */
export async function measurePerplexity(
  model: LanguageModel,
  ids: TokenIds,
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  const { windowLength, stride, batchSize, bosTokenId } = resolve(options);
  const vocabularySize = model.vocabularySize ?? Number.POSITIVE_INFINITY;
  const tokens = checkTokenIds(ids, { vocabularySize, place: 'the text' });
  if (bosTokenId !== undefined) checkTokenIds([bosTokenId], { vocabularySize, place: 'bosTokenId' });
  const windows = cutScoredWindows(tokens, { windowLength, stride, bosTokenId }).slice(0, options.windowCount);
  if (windows.length === 0) {
    throw new OptionError(
      `found ${tokens.length} tokens; perplexity needs at least ${bosTokenId === undefined ? 2 : 1}`,
    );
  }
  let sum = 0;
  let tokenCount = 0;
  for (let start = 0; start < windows.length; ) {
    options.signal?.throwIfAborted();
    const batch = takeAlike(windows, start, batchSize);
    const scores = await model.score(
      batch.map((window) => window.tokens),
      batch[0]!.firstScored,
    );
    for (const score of scores) sum += score;
    tokenCount += scores.length;
    if (!Number.isFinite(sum)) {
      throw new NumericalError(
        `the model's logits are not finite in window ${start}; check its weights, or run it in float32`,
      );
    }
    start += batch.length;
    options.onProgress?.({ stage: 'perplexity', done: start, total: windows.length });
  }
  const negativeLogLikelihood = sum / tokenCount;
  const protocol: PerplexityProtocol = {
    tokensSha256: await sha256OfTokens([tokens]),
    windowLength,
    stride,
    ...(bosTokenId !== undefined && { bosTokenId }),
    windowCount: windows.length,
    tokenCount,
  };
  return {
    perplexity: Math.exp(negativeLogLikelihood),
    negativeLogLikelihood,
    tokenCount,
    windowCount: windows.length,
    protocol,
  };
}

/** Perplexity on a text, encoded in one piece without special tokens. @see measurePerplexity */
export async function measureTextPerplexity(
  model: LanguageModel,
  { text, tokenizer }: { readonly text: string; readonly tokenizer: Tokenizer },
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  const result = await measurePerplexity(model, tokenizer.encode(text), options);
  return { ...result, protocol: { ...result.protocol, textSha256: await sha256(text) } };
}

/** The protocol in one line, for people: `6132 tokens in 12 windows of 512, stride 512, no BOS, text sha256 0b5f...`. */
export function formatPerplexityProtocol(protocol: PerplexityProtocol): string {
  const { tokenCount, windowCount, windowLength, stride, bosTokenId, textSha256, tokensSha256 } = protocol;
  const bos = bosTokenId === undefined ? 'no BOS' : `BOS ${bosTokenId}`;
  const source = textSha256 === undefined ? `tokens sha256 ${tokensSha256}` : `text sha256 ${textSha256}`;
  return `${tokenCount} tokens in ${windowCount} windows of ${windowLength}, stride ${stride}, ${bos}, ${source}`;
}

/** A window as the model reads it, BOS included. */
export interface ScoredWindow {
  readonly tokens: Int32Array;
  /** Position of the first token to score. */
  readonly firstScored: number;
}

/** Windows over a text such that every token that has something before it is scored exactly once. */
export function cutScoredWindows(
  tokens: Int32Array,
  shape: { readonly windowLength: number; readonly stride: number; readonly bosTokenId?: number | undefined },
): ScoredWindow[] {
  const prefix = shape.bosTokenId === undefined ? [] : [shape.bosTokenId];
  const windows: ScoredWindow[] = [];
  let scoredEnd = 0;
  for (let begin = 0; scoredEnd < tokens.length; begin += shape.stride) {
    const end = Math.min(begin + shape.windowLength, tokens.length);
    const window = new Int32Array(prefix.length + end - begin);
    window.set(prefix);
    window.set(tokens.subarray(begin, end), prefix.length);
    const firstScored = Math.max(1, scoredEnd - begin + prefix.length);
    if (firstScored < window.length) windows.push({ tokens: window, firstScored });
    scoredEnd = end;
  }
  return windows;
}

/** The next windows of the same shape, at most `limit`. */
function takeAlike(windows: readonly ScoredWindow[], start: number, limit: number): readonly ScoredWindow[] {
  const first = windows[start]!;
  let end = start + 1;
  const alike = (window: ScoredWindow | undefined) =>
    window?.tokens.length === first.tokens.length && window.firstScored === first.firstScored;
  while (end < start + limit && alike(windows[end])) end++;
  return windows.slice(start, end);
}

function resolve(options: PerplexityOptions) {
  const { windowLength = 512, batchSize = 1, bosTokenId, windowCount = 1 } = options;
  const { stride = windowLength } = options;
  const ranges = {
    windowLength: [2, Infinity],
    stride: [1, windowLength],
    batchSize: [1, Infinity],
    windowCount: [1, Infinity],
  };
  const values = { windowLength, stride, batchSize, windowCount };
  for (const name of Object.keys(ranges) as (keyof typeof ranges)[]) {
    const [least = 1, most = Infinity] = ranges[name];
    if (!Number.isInteger(values[name]) || values[name] < least || values[name] > most) {
      const range = Number.isFinite(most) ? `${least} to ${most}` : `at least ${least}`;
      throw new OptionError(`${name} is ${values[name]}, expected an integer, ${range}`);
    }
  }
  return { windowLength, stride, batchSize, bosTokenId };
}
