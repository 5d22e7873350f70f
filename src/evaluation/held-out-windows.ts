import { readTokens, type TokenSource } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { concatenate } from '../concatenate.js';
import { OptionError } from '../errors.js';
import { createRandom } from '../linalg/random.js';
import { withoutOverlaps } from './find-overlap.js';
import { takeEvenly } from './take-evenly.js';

/** Origin of held-out windows. */
export type HeldOutOrigin = 'source' | 'text' | 'calibration' | 'random';

/** Windows for checking a result, and their origin. */
export interface HeldOutWindows {
  /** Of equal length. */
  readonly windows: readonly Int32Array[];
  /**
   * `source`: the unused rest of the calibration source. `text`: the bundled test text. `calibration`: calibration
   * windows, if there is no other text. `random`: random token ids.
   */
  readonly from: HeldOutOrigin;
}

export interface HeldOutRequest {
  /** Windows that the run was calibrated on. */
  readonly calibration: readonly Int32Array[];
  /** The user's calibration source, if it can be read again. */
  readonly source?: TokenSource | undefined;
  readonly tokenizer: Tokenizer | undefined;
  readonly vocabularySize: number;
  readonly windowCount: number;
  readonly windowLength: number;
  readonly signal?: AbortSignal | undefined;
}

/** Least number of windows from a text, unless fewer are requested. */
const MIN_COUNT = 3;

/** Tokens read of a source beyond those of the calibration, as a multiple of the requested windows. */
const READ_BEYOND = 8;

/**
 * Finds evenly spaced windows that share no passage with the calibration windows: from the rest of the calibration
 * source, else from the bundled test text. Without a tokenizer they are calibration windows, or random ids.
 */
export async function findHeldOutWindows(request: HeldOutRequest): Promise<HeldOutWindows> {
  const { calibration, source, windowCount, windowLength, vocabularySize } = request;
  const origins: readonly (readonly [HeldOutOrigin, TokenSource | undefined])[] = [
    ...(source === undefined ? [] : ([['source', source]] as const)),
    ['text', undefined],
  ];
  for (const [from, opened] of origins) {
    const fresh = withoutOverlaps(await cutText(request, opened), calibration);
    if (fresh.length >= Math.min(windowCount, MIN_COUNT)) return { windows: takeEvenly(fresh, windowCount), from };
  }
  const known = calibration.filter(({ length }) => length >= windowLength).slice(-windowCount);
  if (known.length > 0) return { windows: known.map((window) => window.slice(-windowLength)), from: 'calibration' };
  const random = createRandom(0);
  const draw = () => Int32Array.from({ length: windowLength }, () => Math.floor(random() * vocabularySize));
  return { windows: Array.from({ length: windowCount }, draw), from: 'random' };
}

/** Windows from the start of a text, enough to include the calibration windows and some more. */
async function cutText(request: HeldOutRequest, source: TokenSource | undefined): Promise<Int32Array[]> {
  const { calibration, tokenizer, vocabularySize, windowCount, windowLength, signal } = request;
  if (tokenizer === undefined && source === undefined) return [];
  const opened = source ?? { text: (await import('./held-out-text.js')).HELD_OUT_TEXTS };
  const calibrationCount = calibration.reduce((sum, { length }) => sum + length, 0);
  const enough =
    source === undefined ? Number.POSITIVE_INFINITY : calibrationCount + READ_BEYOND * windowCount * windowLength;
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
    // The tokenizer does not fit the model: the check works without text.
    if (error instanceof OptionError) return [];
    throw error;
  }
  const joined = concatenate(Int32Array, parts);
  const end = Math.min(joined.length, enough);
  const windows: Int32Array[] = [];
  for (let start = 0; start + windowLength <= end; start += windowLength)
    windows.push(joined.slice(start, start + windowLength));
  return windows;
}
