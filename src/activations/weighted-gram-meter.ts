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

/** `[K, K]` row-major each, divided by the sum of the weights. */
export interface WeightedGrams {
  readonly learned: Float64Array;
  /** Over the held-out batches; over all if none is held out. */
  readonly heldOut: Float32Array<ArrayBuffer>;
}

export interface WeightedGramRequest {
  /** Part of the names of the meter's values, unique on the stage. */
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
  // Both sums have the same nodes: each batch adds to one of them.
  const sums = { learned: createSum(), heldOut: createSum() };
  const totals = { learned: 0, heldOut: 0 };
  let hasHeldOut = false;
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
      hasHeldOut ||= side === 'heldOut';
      sums[side].add(values);
      for (const weight of weightsOf(batch) ?? []) totals[side] += weight;
    },
    finish() {
      // For a wide FFN each takes nearly a gigabyte, so the first is converted before the second is computed.
      const heldOut = hasHeldOut ? toSingle(meanOf(sums.heldOut, totals.heldOut)) : undefined;
      const learned = meanOf(sums.learned, totals.learned);
      return { learned, heldOut: heldOut ?? new Float32Array(learned) };
    },
  };

  function meanOf(sum: GramSum, total: number): Float64Array {
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
function toSingle(matrix: Float64Array): Float32Array<ArrayBuffer> {
  const single = new Float32Array(matrix);
  freeBytes(matrix);
  return single;
}
