import { OptionError } from '../errors.js';
import { createRandom } from '../linalg/random.js';
import { createCalibrationSet } from './calibration-set.js';
import type { Tokenizer } from './tokenizer.js';

/** Windows to check a result on, and where they are from. */
export interface HeldOutWindows {
  readonly windows: readonly Int32Array[];
  /** `text`: the public text, none of it calibrated on. `calibration`: calibration windows. `random`: token ids drawn at random. */
  readonly from: 'text' | 'calibration' | 'random';
}

export interface HeldOutRequest {
  readonly calibration: readonly Int32Array[];
  readonly tokenizer: Tokenizer | undefined;
  readonly vocabularySize: number;
  readonly windowCount: number;
  readonly windowLength: number;
}

/** Finds a few short windows that the run did not calibrate on, as far as there are any: the last of the public text. */
export async function findHeldOutWindows(request: HeldOutRequest): Promise<HeldOutWindows> {
  const { calibration, windowCount, windowLength, vocabularySize } = request;
  const fresh = (await textWindows(request)).filter((window) => !occurs(window, calibration)).slice(-windowCount);
  if (fresh.length === windowCount) return { windows: fresh, from: 'text' };
  const known = calibration.filter(({ length }) => length >= windowLength).slice(-windowCount);
  if (known.length > 0) return { windows: known.map((window) => window.slice(-windowLength)), from: 'calibration' };
  const random = createRandom(0);
  const draw = () => Int32Array.from({ length: windowLength }, () => Math.floor(random() * vocabularySize));
  return { windows: Array.from({ length: windowCount }, draw), from: 'random' };
}

async function textWindows({
  tokenizer,
  vocabularySize,
  windowLength,
}: HeldOutRequest): Promise<readonly Int32Array[]> {
  if (tokenizer === undefined) return [];
  try {
    const whole = { windowCount: Number.MAX_SAFE_INTEGER, windowLength, tokenizer, vocabularySize };
    return (await createCalibrationSet(whole)).windows;
  } catch (error) {
    // A tokenizer that does not fit the model: the check can do without text.
    if (error instanceof OptionError) return [];
    throw error;
  }
}

/** Whether a window's tokens stand in a row in any of some others. */
function occurs(window: Int32Array, others: readonly Int32Array[]): boolean {
  return others.some((other) => {
    for (let start = other.indexOf(window[0]!); start >= 0; start = other.indexOf(window[0]!, start + 1)) {
      if (start + window.length > other.length) return false;
      if (window.every((token, at) => other[start + at] === token)) return true;
    }
    return false;
  });
}
