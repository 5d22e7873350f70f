import { counted } from '../counted.js';
import { OptionError } from '../errors.js';
import type { ScoredSequence } from './bundle.js';

/** How a text is cut into windows. */
export interface WindowOptions {
  /** Tokens of text per window, at least 2 and at most the text's. Default 512, or less if the text or `contextLength` is shorter. */
  readonly windowLength?: number | undefined;
  /**
   * Tokens from one window to the next, 1 to `windowLength`. With a smaller stride windows overlap, and only tokens
   * that no earlier window has scored are scored, with at least `windowLength - stride` tokens of context. Default:
   * `windowLength`.
   */
  readonly stride?: number | undefined;
  /** Tokens put before every window, such as a BOS token, so that its first token is scored too. Default none. */
  readonly leadingTokens?: readonly number[] | undefined;
  /** Longest sequence that the model reads, `leadingTokens` included. Default: no limit. */
  readonly contextLength?: number | undefined;
  /** Windows to score, from the start. Default: all, the last one possibly shorter. */
  readonly windowCount?: number | undefined;
  /** Windows that run together, at least 1. Default 1, since logits of a window are large. */
  readonly batchSize?: number | undefined;
}

/** Window options with their defaults. */
export interface ResolvedWindows {
  readonly windowLength: number;
  readonly stride: number;
  readonly batchSize: number;
  readonly leadingTokens: readonly number[];
}

/** Fills in defaults for a text of `tokenCount` tokens. @throws OptionError for values out of range, or a text that is too short. */
export function resolveWindows(options: WindowOptions, tokenCount: number): ResolvedWindows {
  const { batchSize = 1, leadingTokens = [], windowCount = 1, contextLength = Number.POSITIVE_INFINITY } = options;
  const room = contextLength - leadingTokens.length;
  const least = leadingTokens.length === 0 ? 2 : 1;
  if (tokenCount < least)
    throw new OptionError(`found ${counted(tokenCount, 'token')}; a text to measure on needs at least ${least}`);
  const { windowLength = Math.max(2, Math.min(STANDARD_LENGTH, room, tokenCount)) } = options;
  const { stride = windowLength } = options;
  const ranges = {
    windowLength: [2, Infinity],
    stride: [1, windowLength],
    batchSize: [1, Infinity],
    windowCount: [1, Infinity],
  };
  const values = { windowLength, stride, batchSize, windowCount };
  for (const name of Object.keys(ranges) as (keyof typeof ranges)[]) {
    const [lowest = 1, highest = Infinity] = ranges[name];
    if (!Number.isInteger(values[name]) || values[name] < lowest || values[name] > highest) {
      const range = Number.isFinite(highest) ? `${lowest} to ${highest}` : `at least ${lowest}`;
      throw new OptionError(`${name} is ${values[name]}, expected an integer, ${range}`);
    }
  }
  if (windowLength > room) {
    const leading = leadingTokens.length === 0 ? '' : ` after the ${leadingTokens.length} that begin every window`;
    throw new OptionError(`windowLength is ${windowLength}, but the model reads at most ${room} tokens${leading}`);
  }
  if (options.windowLength !== undefined && tokenCount < windowLength) {
    throw new OptionError(
      `found ${counted(tokenCount, 'token')}, and one window needs ${windowLength}; give more text or a smaller windowLength`,
    );
  }
  return { windowLength, stride, batchSize, leadingTokens };
}

const STANDARD_LENGTH = 512;

/** Largest number of tokens needed for the windows; undefined for all. */
export function tokensNeeded({ windowLength = STANDARD_LENGTH, windowCount }: WindowOptions): number | undefined {
  return windowCount === undefined ? undefined : windowCount * windowLength;
}

/** Windows over a text such that every token with a predecessor is scored exactly once. */
export function cutScoredWindows(
  tokens: Int32Array,
  shape: Pick<ResolvedWindows, 'windowLength' | 'stride'> & Pick<WindowOptions, 'leadingTokens'>,
): ScoredSequence[] {
  const { leadingTokens: prefix = [] } = shape;
  const windows: ScoredSequence[] = [];
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
