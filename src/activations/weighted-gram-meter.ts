import { NumericalError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { OPEN } from '../onnx/value-facts.js';
import type { Batch } from '../runtime/block-runner.js';
import { joinExtensions } from '../runtime/compile-stage.js';
import { extendStage } from './extend-stage.js';
import { createGramSum, type GramSum } from './gram-sum.js';
import type { StageMeter } from './stage-meter.js';

/** Weighted Gram matrices of one value, over training tokens and over held-out tokens. */
export interface WeightedGramMeter extends StageMeter {
  /** @throws NumericalError for NaN activations. */
  finish(): WeightedGrams;
}

/** `[K, K]` row-major each, means over tokens of weight 1 on average. */
export interface WeightedGrams {
  readonly learned: Float64Array;
  /** Over the held-out batches; over all where none is held out. */
  readonly heldOut: Float32Array<ArrayBuffer>;
}

export interface WeightedGramRequest {
  /** Tells the meter's values from those of others on the same stage. */
  readonly at: string;
  /** Value with K channels on its last axis. */
  readonly value: string;
  readonly channelCount: number;
  /** Weight of every token of a batch, at least 0; undefined for a skipped batch. */
  weightsOf(batch: Batch): Float32Array | undefined;
  isHeldOut(batch: Batch): boolean;
}

/** `sum of weight x x'` over tokens, summed in the graph. */
export function createWeightedGramMeter(given: WeightedGramRequest): WeightedGramMeter {
  const { at, value, channelCount: size, weightsOf, isHeldOut } = given;
  const { names, ...extension } = extendStage(`weighted_gram/${at}`, (o) => {
    const weights = o.input('weights', [1, OPEN]);
    const channels = o.transpose(o.rows(o.float(o.value(value)), size), [1, 0]);
    return { weights, channels, weighted: o.mul(channels, weights) };
  });
  const { weighted: left, channels: right } = names;
  const createSum = () => createGramSum({ name: `weighted_gram/${at}/gram`, left, right, size });
  // The nodes of one sum serve both: each batch adds to one of the two.
  const sums = { learned: createSum(), heldOut: createSum() };
  const totals = { learned: 0, heldOut: 0 };
  let holdsOut = false;
  const sideOf = (batch: Batch): keyof typeof sums => (isHeldOut(batch) ? 'heldOut' : 'learned');
  return {
    reads: [value],
    extension: joinExtensions([{ ...extension, outputs: [] }, sums.learned]),
    feeds(batch) {
      const data = weightsOf(batch) ?? new Float32Array(batch.tokens.length);
      return { [names.weights]: { type: 'float32', dims: [1, data.length], data }, ...sums[sideOf(batch)].feeds() };
    },
    add(batch, values) {
      const side = sideOf(batch);
      holdsOut ||= side === 'heldOut';
      sums[side].add(values);
      for (const weight of weightsOf(batch) ?? []) totals[side] += weight;
    },
    finish() {
      // Nearly a gigabyte each for a wide FFN, so that the first is narrowed before the second is made.
      const heldOut = holdsOut ? inSingle(take(sums.heldOut, totals.heldOut)) : undefined;
      const learned = take(sums.learned, totals.learned);
      return { learned, heldOut: heldOut ?? new Float32Array(learned) };
    },
  };

  function take(sum: GramSum, total: number): Float64Array {
    const mean = sum.finish(total > 0 ? total : 1);
    for (let channel = 0; channel < size; channel += 1) {
      if (Number.isFinite(mean[channel * size + channel])) continue;
      throw new NumericalError(
        `channel ${channel} of "${value}" is NaN or infinite; check the model's weights, or run it in float32`,
      );
    }
    return mean;
  }
}

/** Converts to single precision and frees the matrix. */
function inSingle(matrix: Float64Array): Float32Array<ArrayBuffer> {
  const single = new Float32Array(matrix);
  freeBytes(matrix);
  return single;
}
