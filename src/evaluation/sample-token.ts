import { NumericalError, OptionError } from '../errors.js';
import type { Random } from '../linalg/random.js';

export interface SamplingOptions {
  /** 0 takes the most likely token (greedy); 1 samples from the model's own distribution. At least 0. Default 0. */
  readonly temperature?: number;
  /** Samples among the k most likely tokens only; at least 1. Default: all. */
  readonly topK?: number;
}

/**
 * Creates a function that picks the next token from a row of logits. It reuses its working memory, so that only one
 * caller may use it at a time.
 *
 * @throws OptionError for options out of range; the picker throws NumericalError when no logit is a finite number.
 */
export function createTokenPicker({
  temperature = 0,
  topK,
}: SamplingOptions = {}): (logits: Float32Array, random: Random) => number {
  if (!(temperature >= 0) || temperature === Infinity) {
    throw new OptionError(`temperature is ${temperature}, expected a number of at least 0`);
  }
  if (topK !== undefined && (!Number.isInteger(topK) || topK < 1)) {
    throw new OptionError(`topK is ${topK}, expected an integer of at least 1`);
  }
  if (temperature === 0) return pickLargest;
  let cumulative = new Float64Array(0);
  let order = new Float32Array(0);
  return (logits, random) => {
    const width = logits.length;
    if (cumulative.length !== width) cumulative = new Float64Array(width);
    const largest = logits[pickLargest(logits)]!;
    let floor = -Infinity;
    if (topK !== undefined && topK < width) {
      if (order.length !== width) order = new Float32Array(width);
      order.set(logits);
      floor = order.sort()[width - topK]!;
    }
    let sum = 0;
    for (let token = 0; token < width; token++) {
      const logit = logits[token]!;
      if (logit >= floor) sum += Math.exp((logit - largest) / temperature);
      cumulative[token] = sum;
    }
    return firstAbove(cumulative, random() * sum);
  };
}

/** Index of the largest logit; ties go to the first. @throws NumericalError when there is none. */
function pickLargest(logits: Float32Array): number {
  let best = -1;
  let largest = -Infinity;
  for (let token = 0; token < logits.length; token++) {
    if (logits[token]! > largest) {
      largest = logits[token]!;
      best = token;
    }
  }
  if (best < 0 || largest === Infinity) {
    throw new NumericalError("the model's logits are not finite; check its weights, or run it in float32");
  }
  return best;
}

/** First index whose cumulative sum exceeds `level`. */
function firstAbove(cumulative: Float64Array, level: number): number {
  let low = 0;
  let high = cumulative.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cumulative[middle]! > level) high = middle;
    else low = middle + 1;
  }
  return low;
}
