import { pickColumns } from '../importance/column-sums.js';
import type { Compensated, ImportanceProblem } from './adapter.js';
import { removedChannels } from './removed-channels.js';

/**
 * FLAP's repair: the removed channels' mean output becomes a bias, `b += sum over removed j of W_:j mu_j`.
 *
 * @param keep Ascending channel indices.
 * @returns A bias of length `out`.
 * @see FLAP (An et al., AAAI 2024, arXiv 2312.11983), section 3.4
 */
export function compensateByMeanBias(
  problem: ImportanceProblem,
  keep: Int32Array,
): Compensated & { readonly bias: Float64Array } {
  const removed = removedChannels(keep, problem.unitOfChannel.length);
  return { bias: outputOfMean(pickColumns(problem.weight, removed), problem.statistics.mean, removed) };
}

/** Dense columns `[out, channels.length]` times the means of their channels. */
export function outputOfMean(columns: ArrayLike<number>, mean: Float64Array, channels: Int32Array): Float64Array {
  const count = channels.length;
  const output = new Float64Array(count === 0 ? 0 : columns.length / count);
  for (let row = 0; row < output.length; row++) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += columns[row * count + i]! * mean[channels[i]!]!;
    output[row] = sum;
  }
  return output;
}
