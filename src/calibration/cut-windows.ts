import { OptionError } from '../errors.js';
import { drawPermutation, type Random } from '../linalg/random.js';

export interface WindowShape {
  /** Windows wanted, at least 1; fewer are cut when the tokens run out. */
  readonly windowCount: number;
  /** Tokens per window, at least 2: one to see and one to predict. */
  readonly windowLength: number;
}

/**
 * Cuts consecutive windows that do not overlap; what is left at the end is dropped.
 *
 * @param random Draws the windows from all that fit, none twice, kept in text order. Default: the first ones.
 * @returns At most `windowCount` windows; views of `tokens`.
 * @throws OptionError when the tokens do not fill one window, saying how many there are and how many are needed.
 */
export function cutWindows(tokens: Int32Array, shape: WindowShape, random?: Random): Int32Array[] {
  checkWindowShape(shape);
  const { windowCount, windowLength } = shape;
  const available = Math.floor(tokens.length / windowLength);
  if (available === 0) {
    throw new OptionError(
      `found ${tokens.length} tokens, and one window needs ${windowLength} (${windowCount} windows need ${windowCount * windowLength}); give more text or a smaller calibration.windowLength`,
    );
  }
  const chosen =
    random === undefined
      ? Int32Array.from({ length: Math.min(windowCount, available) }, (_, index) => index)
      : drawPermutation(random, available).slice(0, windowCount).sort();
  return Array.from(chosen, (index) => tokens.subarray(index * windowLength, (index + 1) * windowLength));
}

/** @throws OptionError when the shape is not one that windows can have. */
export function checkWindowShape({ windowCount, windowLength }: WindowShape): void {
  if (!Number.isInteger(windowCount) || windowCount < 1) {
    throw new OptionError(`windowCount is ${windowCount}, expected an integer of at least 1`);
  }
  if (!Number.isInteger(windowLength) || windowLength < 2) {
    throw new OptionError(`windowLength is ${windowLength}, expected an integer of at least 2`);
  }
}
