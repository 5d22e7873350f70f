/** Running weighted moments of some channels, float64, one entry per channel. */
export interface ChannelMoments {
  readonly weightSum: number;
  readonly mean: Float64Array;
  /** Sum of weight times squared distance from the mean. */
  readonly scatter: Float64Array;
}

/** Moments of one batch as the graph returns them: sums of distances from `shift`. */
export interface BatchMoments {
  readonly weightSum: number;
  readonly shift: ArrayLike<number>;
  /** sum_i w_i (h_ij - shift_j) */
  readonly first: ArrayLike<number>;
  /** sum_i w_i (h_ij - shift_j)^2 */
  readonly second: ArrayLike<number>;
}

/** Moments of no tokens. */
export function startMoments(channelCount: number): ChannelMoments {
  return { weightSum: 0, mean: new Float64Array(channelCount), scatter: new Float64Array(channelCount) };
}

/**
 * Merges a batch into the running moments, without the cancellation of raw sums of squares.
 * @see Chan, Golub & LeVeque 1983, pairwise combination of means and sums of squares
 */
export function addMoments(moments: ChannelMoments, batch: BatchMoments): ChannelMoments {
  const { weightSum: before, mean, scatter } = moments;
  const added = batch.weightSum;
  const total = before + added;
  if (added === 0) return moments;
  const next = { weightSum: total, mean: new Float64Array(mean.length), scatter: new Float64Array(mean.length) };
  for (let j = 0; j < mean.length; j += 1) {
    const offset = batch.first[j]! / added;
    const batchMean = batch.shift[j]! + offset;
    const batchScatter = Math.max(0, batch.second[j]! - added * offset * offset);
    const gap = batchMean - mean[j]!;
    next.mean[j] = mean[j]! + (gap * added) / total;
    next.scatter[j] = scatter[j]! + batchScatter + (gap * gap * before * added) / total;
  }
  return next;
}
