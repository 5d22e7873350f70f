import { joinTokens } from '../calibration/encode-pieces.js';
import { readTokens, type TokenSource } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { OptionError } from '../errors.js';
import { createRandom } from '../linalg/random.js';
import { keepApart } from './find-overlap.js';
import { takeEvenly } from './take-evenly.js';

/** Where held-out windows are from. */
export type HeldOutOrigin = 'source' | 'text' | 'calibration' | 'random';

/** Windows to check a result on, and where they are from. */
export interface HeldOutWindows {
  /** Of equal length. */
  readonly windows: readonly Int32Array[];
  /**
   * `source`: the calibration source, beyond what the run has learnt from. `text`: the bundled text for this. `calibration`:
   * calibration windows, where there is no other text. `random`: token ids drawn at random.
   */
  readonly from: HeldOutOrigin;
}

export interface HeldOutRequest {
  /** Windows that the run has learnt from. */
  readonly calibration: readonly Int32Array[];
  /** Source of the calibration text, where it is the user's and can be read again. */
  readonly source?: TokenSource | undefined;
  readonly tokenizer: Tokenizer | undefined;
  readonly vocabularySize: number;
  readonly windowCount: number;
  readonly windowLength: number;
  readonly signal?: AbortSignal | undefined;
}

/** Fewer windows of a text are too few to measure on, unless fewer were asked for. */
const LEAST_COUNT = 3;

/** How far beyond the tokens of the calibration a source is read, in windows asked for. */
const READ_BEYOND = 8;

/**
 * Finds windows that share no passage with what the run has learnt from, spread over a text: what the calibration source has left,
 * else a text that nothing calibrates on. Without a tokenizer they are calibration windows, or random ids.
 */
export async function findHeldOutWindows(request: HeldOutRequest): Promise<HeldOutWindows> {
  const { calibration, source, windowCount, windowLength, vocabularySize } = request;
  const origins: readonly (readonly [HeldOutOrigin, TokenSource | undefined])[] = [
    ...(source === undefined ? [] : ([['source', source]] as const)),
    ['text', undefined],
  ];
  for (const [from, opened] of origins) {
    const fresh = keepApart(await cutText(request, opened), calibration);
    if (fresh.length >= Math.min(windowCount, LEAST_COUNT)) return { windows: takeEvenly(fresh, windowCount), from };
  }
  const known = calibration.filter(({ length }) => length >= windowLength).slice(-windowCount);
  if (known.length > 0) return { windows: known.map((window) => window.slice(-windowLength)), from: 'calibration' };
  const random = createRandom(0);
  const draw = () => Int32Array.from({ length: windowLength }, () => Math.floor(random() * vocabularySize));
  return { windows: Array.from({ length: windowCount }, draw), from: 'random' };
}

/** Windows of a text from its start, as many as may hold those that were calibrated on and some more. */
async function cutText(request: HeldOutRequest, source: TokenSource | undefined): Promise<Int32Array[]> {
  const { calibration, tokenizer, vocabularySize, windowCount, windowLength, signal } = request;
  if (tokenizer === undefined && source === undefined) return [];
  const opened = source ?? { text: (await import('./held-out-text.js')).HELD_OUT_TEXTS };
  const seen = calibration.reduce((sum, { length }) => sum + length, 0);
  const enough = source === undefined ? Number.POSITIVE_INFINITY : seen + READ_BEYOND * windowCount * windowLength;
  const parts: Int32Array[] = [];
  let count = 0;
  try {
    for await (const { tokens } of readTokens(opened, { tokenizer, vocabularySize, enough })) {
      signal?.throwIfAborted();
      parts.push(tokens);
      count += tokens.length;
      if (count >= enough) break;
    }
  } catch (error) {
    // A tokenizer that does not fit the model: the check can do without text.
    if (error instanceof OptionError) return [];
    throw error;
  }
  const joined = joinTokens(parts);
  const end = Math.min(joined.length, enough);
  const windows: Int32Array[] = [];
  for (let start = 0; start + windowLength <= end; start += windowLength)
    windows.push(joined.slice(start, start + windowLength));
  return windows;
}
