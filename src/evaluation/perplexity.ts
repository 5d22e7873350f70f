import { findLeadingTokens } from '../calibration/leading-tokens.js';
import { sha256, sha256OfTokens } from '../calibration/sha256.js';
import { checkTokenIds, type TokenIds } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { NumericalError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { JobControl } from '../progress.js';
import type { ScoredSequence } from './bundle.js';
import type { LanguageModel } from './language-model.js';
import type { ScoreLog } from './score-log.js';
import { cutScoredWindows, resolveWindows, tokensNeeded, type WindowOptions } from './scored-windows.js';

export interface PerplexityOptions extends WindowOptions, JobControl {
  /** Log of window scores, from which an interrupted run resumes. Default: none. */
  readonly log?: ScoreLog<WindowScore> | undefined;
  /** UTF-8 bytes of tokens, see `Tokenizer`. Default: unknown, so that bits per byte are not measured. */
  readonly countBytes?: ((tokens: ArrayLike<number>) => number) | undefined;
}

/** A window's loss. */
export interface WindowLoss {
  /** Sum of -ln p over the tokens scored, in nats. */
  readonly nll: number;
  readonly tokenCount: number;
}

/** Score of one window. */
export interface WindowScore extends WindowLoss {
  /** Index of the window in the text. */
  readonly index: number;
}

/** Protocol of a perplexity; only figures with equal protocols are comparable. */
export interface PerplexityProtocol {
  /** SHA-256 of the token ids (32-bit little-endian), and of their text if known. */
  readonly tokensSha256: string;
  readonly textSha256?: string;
  readonly windowLength: number;
  readonly stride: number;
  /** Tokens put before every window; absent when windows start with text, whose first token is not scored. */
  readonly leadingTokens?: readonly number[];
  readonly windowCount: number;
  /** Tokens scored. */
  readonly tokenCount: number;
}

export interface PerplexityResult {
  /** exp of the mean negative log-likelihood. */
  readonly perplexity: number;
  /** Mean over the scored tokens, in nats. */
  readonly negativeLogLikelihood: number;
  /** Bits per UTF-8 byte of the scored tokens, comparable between tokenizers. Absent where the bytes are unknown. */
  readonly bitsPerByte?: number;
  readonly tokenCount: number;
  readonly windowCount: number;
  /** Losses by window, for confidence intervals of changes. */
  readonly windows: readonly WindowLoss[];
  readonly protocol: PerplexityProtocol;
}

/**
 * Perplexity of a model on a token sequence, window by window; sums in double precision.
 *
 * @throws OptionError for too few tokens, ids outside the vocabulary, or options out of range.
 * @throws NumericalError when the model's logits are not finite.
 * @see https://huggingface.co/docs/transformers/perplexity for the strided protocol
 */
export async function measurePerplexity(
  model: LanguageModel,
  ids: TokenIds,
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  const vocabularySize = model.vocabularySize ?? Number.POSITIVE_INFINITY;
  const tokens = checkTokenIds(ids, { vocabularySize, place: 'the text' });
  const { windowLength, stride, batchSize, leadingTokens } = resolveWindows(options, tokens.length);
  checkTokenIds(leadingTokens, { vocabularySize, place: 'leadingTokens' });
  const windows = cutScoredWindows(tokens, { windowLength, stride, leadingTokens }).slice(0, options.windowCount);
  const scores = await scoreWindows(model, windows, { ...options, batchSize });
  const nats = sum(scores.map(({ nll }) => nll));
  const tokenCount = sum(scores.map((score) => score.tokenCount));
  const negativeLogLikelihood = nats / tokenCount;
  if (!Number.isFinite(Math.exp(negativeLogLikelihood)))
    throw new NumericalError(
      `the mean loss is ${negativeLogLikelihood} nats per token, too large for a perplexity; check the model's weights, or the file of scores`,
    );
  const protocol: PerplexityProtocol = {
    tokensSha256: await sha256OfTokens([tokens]),
    windowLength,
    stride,
    ...(leadingTokens.length > 0 && { leadingTokens }),
    windowCount: windows.length,
    tokenCount,
  };
  return {
    perplexity: Math.exp(negativeLogLikelihood),
    negativeLogLikelihood,
    ...bitsOf(nats, windows, options.countBytes),
    tokenCount,
    windowCount: windows.length,
    windows: scores.map(({ nll, tokenCount: count }) => ({ nll, tokenCount: count })),
    protocol,
  };
}

function bitsOf(
  nats: number,
  windows: readonly ScoredSequence[],
  countBytes: PerplexityOptions['countBytes'],
): Pick<PerplexityResult, 'bitsPerByte'> {
  if (countBytes === undefined) return {};
  const bytes = windows.reduce((sum, { tokens, firstScored }) => sum + countBytes(tokens.subarray(firstScored)), 0);
  return bytes === 0 ? {} : { bitsPerByte: nats / (Math.LN2 * bytes) };
}

/** Scores of all windows, in order. A batch whose windows are all known is not run. */
async function scoreWindows(
  model: LanguageModel,
  windows: readonly ScoredSequence[],
  { batchSize, log, onProgress, signal }: PerplexityOptions & { readonly batchSize: number },
): Promise<WindowScore[]> {
  const isScoreOf = ({ tokens, firstScored }: ScoredSequence, { tokenCount }: WindowScore) =>
    tokens.length - firstScored === tokenCount;
  // A score file may be damaged: invalid scores are measured again.
  const scores = new Map(
    [...(log?.known ?? [])].filter(([index, score]) => index < windows.length && isScoreOf(windows[index]!, score)),
  );
  for (let start = 0; start < windows.length; ) {
    signal?.throwIfAborted();
    const batch = takeEqualLengths(windows, start, batchSize);
    if (batch.some((_, at) => !scores.has(start + at))) {
      const fresh = (await scoreTogether(model, batch))
        .map((score, at) => ({ index: start + at, ...score }))
        .filter(({ index }) => !scores.has(index));
      await log?.add(fresh);
      for (const score of fresh) scores.set(score.index, score);
    }
    start += batch.length;
    onProgress?.({ stage: 'perplexity', done: start, total: windows.length });
  }
  return windows.map((_, index) => scores.get(index)!);
}

/** Scores windows of one shape. @throws NumericalError */
async function scoreTogether(
  model: LanguageModel,
  windows: readonly ScoredSequence[],
): Promise<Omit<WindowScore, 'index'>[]> {
  const { firstScored } = windows[0]!;
  const scores = await model.score(
    windows.map(({ tokens }) => tokens),
    firstScored,
  );
  const tokenCount = scores.length / windows.length;
  return windows.map((_, at) => {
    const nll = sum(scores.subarray(at * tokenCount, (at + 1) * tokenCount));
    if (!Number.isFinite(nll)) {
      throw new NumericalError("the model's logits are not finite; check its weights, or run it in float32");
    }
    return { nll, tokenCount };
  });
}

/**
 * Perplexity on a text. By default every window begins with the tokens that the tokenizer puts before a text.
 * @see measurePerplexity
 */
export async function measureTextPerplexity(
  model: LanguageModel,
  { text, tokenizer }: { readonly text: string; readonly tokenizer: Tokenizer },
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  const { leadingTokens = findLeadingTokens(tokenizer) } = options;
  const tokens = tokenizer.encode(text, { enough: tokensNeeded(options) });
  const { countBytes } = tokenizer;
  const result = await measurePerplexity(model, tokens, { countBytes, ...options, leadingTokens });
  return { ...result, protocol: { ...result.protocol, textSha256: await sha256(text) } };
}

/** The next windows of the same shape, at most `limit`. */
function takeEqualLengths(windows: readonly ScoredSequence[], start: number, limit: number): readonly ScoredSequence[] {
  const first = windows[start]!;
  let end = start + 1;
  const hasSameShape = (window: ScoredSequence | undefined) =>
    window?.tokens.length === first.tokens.length && window.firstScored === first.firstScored;
  while (end < start + limit && hasSameShape(windows[end])) end++;
  return windows.slice(start, end);
}
