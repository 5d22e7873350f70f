import { concatenate } from '../concatenate.js';
import { counted } from '../counted.js';
import { OptionError } from '../errors.js';
import { drawPermutation, type Random } from '../linalg/random.js';
import { beginsWith } from './leading-tokens.js';

export interface WindowShape {
  /** Requested windows, at least 1; fewer are cut from a short text. */
  readonly windowCount: number;
  /** Tokens per window, at least 2: one to read and one to predict. */
  readonly windowLength: number;
  /** Tokens that every window begins with, counted in its length. Default none. */
  readonly leadingTokens?: readonly number[] | undefined;
}

/**
 * Cuts consecutive windows that do not overlap; the rest at the end is dropped.
 *
 * A window whose tokens begin with `leadingTokens` is not prefixed again.
 *
 * @param random Samples windows without replacement, in text order. Default: the first windows.
 * @returns At most `windowCount` windows; views of `tokens` where nothing is prefixed.
 * @throws OptionError when the tokens do not fill one window.
 */
export function cutWindows(tokens: Int32Array, shape: WindowShape, random?: Random): Int32Array[] {
  checkWindowShape(shape);
  const { windowCount, windowLength, leadingTokens = [] } = shape;
  const spans = findSpans(tokens, { windowLength, leadingTokens });
  const available = spans.length;
  if (available === 0) {
    const needed = windowLength - leadingTokens.length;
    const forAll = windowCount === 1 ? '' : ` (${windowCount} windows need ${windowCount * needed})`;
    throw new OptionError(
      `found ${counted(tokens.length, 'token')}, and one window needs ${needed}${forAll}; give more text or a smaller calibration.windowLength`,
    );
  }
  const chosen =
    random === undefined
      ? Int32Array.from({ length: Math.min(windowCount, available) }, (_, index) => index)
      : drawPermutation(random, available).slice(0, windowCount).sort();
  return Array.from(chosen, (index) => {
    const window = tokens.subarray(...spans[index]!);
    return window.length === windowLength ? window : concatenate(Int32Array, [leadingTokens, window]);
  });
}

/** Start and end of each window in `tokens`, without prefixed tokens. */
function findSpans(
  tokens: Int32Array,
  { windowLength, leadingTokens }: { readonly windowLength: number; readonly leadingTokens: readonly number[] },
): (readonly [start: number, end: number])[] {
  const spans: [number, number][] = [];
  for (let start = 0; ; ) {
    const end = start + windowLength - (beginsWith(tokens, leadingTokens, start) ? 0 : leadingTokens.length);
    if (end > tokens.length) return spans;
    spans.push([start, end]);
    start = end;
  }
}

/** @throws OptionError when a count or length is out of range. */
export function checkWindowShape({ windowCount, windowLength, leadingTokens = [] }: WindowShape): void {
  if (!Number.isInteger(windowCount) || windowCount < 1) {
    throw new OptionError(`windowCount is ${windowCount}, expected an integer of at least 1`);
  }
  if (!Number.isInteger(windowLength) || windowLength < 2) {
    throw new OptionError(`windowLength is ${windowLength}, expected an integer of at least 2`);
  }
  if (windowLength <= leadingTokens.length) {
    throw new OptionError(
      `windowLength is ${windowLength}, and ${leadingTokens.length} tokens begin every window; give a larger calibration.windowLength`,
    );
  }
}
