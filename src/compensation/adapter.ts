import type { NdArray } from 'ndarray';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';

/** Weight of a linear layer viewed as `[out, in]`; strides handle a transposed layout in the file. */
export type LinearWeight = NdArray<Float32Array>;

/** Sums over tokens that an adapter needs; `gram` implies mean and variance. */
export type StatisticsNeed = 'none' | 'moments' | 'gram';

/**
 * Token statistics of the input of one linear layer (the channels that may be removed), over one function group. All
 * sums are weighted with the token weights of that group (mean 1; all 1 without FANG).
 */
export interface ChannelStatistics {
  /** Tokens seen, T. */
  readonly tokenCount: number;
  /** mu_j = (1/T) sum_i w_i h_ij; length `channelCount`. */
  readonly mean: Float64Array;
  /** v_j = (1/T) sum_i w_i (h_ij - mu_j)^2; length `channelCount`. */
  readonly variance: Float64Array;
  /** A = (1/T) sum_i w_i h_i h_i^T; `[channelCount, channelCount]`, row-major; only when the adapter needs it. Freed once the module has shrunk. */
  readonly gram?: Float64Array;
}

/** An importance problem: channels of one linear layer, with their statistics. */
export interface ImportanceProblem {
  /** `[out, channelCount]`: the columns of the linear layer that belong to this group, in order. */
  readonly weight: LinearWeight;
  /** Weight for scores, if it differs: in a metric with curvature G, `R W` with `R'R = G`. */
  readonly scoredWeight?: LinearWeight | undefined;
  /** The statistics that the adapter `needs`; `EMPTY_STATISTICS` for `none`. */
  readonly statistics: ChannelStatistics;
  /**
   * Unit of each channel, numbered 0..unitCount-1 in order of first channel: a neuron has one channel, a head `headSize`.
   * Only whole units are removed.
   */
  readonly unitOfChannel: Int32Array;
  readonly unitCount: number;
  /** Known importance by unit, which methods with expensive scores may return unchanged. */
  readonly knownScores?: Float64Array | undefined;
  /** Seeded generator in [0, 1) for methods that draw. */
  readonly random: () => number;
  /** Runs the large products of factorisations, for instance in ONNX Runtime; default: plain JavaScript loops. */
  readonly multiply?: MultiplyTransposed | undefined;
  /** Called by slow methods with the number of scored units; may throw to abort. */
  readonly onUnits?: ((done: number) => void) | undefined;
}

/** Statistics for adapters whose `needs` is `none`. */
export const EMPTY_STATISTICS: ChannelStatistics = {
  tokenCount: 0,
  mean: new Float64Array(0),
  variance: new Float64Array(0),
};

/** The linear layer with only the channels `keep`. */
export interface Compensated {
  /** `[out, keep.length]` row-major repaired columns; absent = the remaining columns are unchanged. */
  readonly weight?: Float32Array;
  /** Added to the output, length `out`; absent = no bias. */
  readonly bias?: Float64Array;
  /**
   * Reduction of the output's mean squared error by the repair, if the solver returns it. Absent: the error is measured
   * for the report, which costs as much as scoring.
   */
  readonly regained?: number;
  /** Condition of the least-squares problem; absent for other repairs. */
  readonly numerics?: RepairNumerics;
  /** Remarks for the report, such as a raised dampening. */
  readonly remarks?: readonly string[];
}

/** Condition of a least-squares repair. */
export interface RepairNumerics {
  /** Dampening used, as a fraction of the mean of the Hessian's diagonal; larger than the requested one where it was raised. */
  readonly dampening: number;
  /** Lower estimate of the condition number of the remaining channels' dampened Hessian; at least 1. */
  readonly condition: number;
}

/** Scores of one problem and the matching repair; both may share one factorisation. */
export interface PreparedImportance {
  /** Importance per unit, larger is kept; length `unitCount`. */
  readonly scores: Float64Array;
  /** Cost of each successive removal by rising score, non-decreasing; length `unitCount`. Absent: the sorted scores. */
  readonly costs?: Float64Array;
  /** Repairs the layer for the remaining channels (ascending channel indices of the problem). */
  compensate(keep: Int32Array): Compensated | Promise<Compensated>;
  /** Remarks for the report, such as a raised dampening. */
  readonly remarks?: readonly string[];
}

/** A pruning method on one linear layer: scores units and repairs the rest. */
export interface CompensationAdapter {
  readonly needs: StatisticsNeed;
  prepare(problem: ImportanceProblem): PreparedImportance | Promise<PreparedImportance>;
}
