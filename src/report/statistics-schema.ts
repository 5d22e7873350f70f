import type { PrunableModule } from '../architecture/layout.js';
import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import type { MetricName } from '../options.js';
import type { StatisticsKind } from '../prune/measure-dense/dense-statistics.js';
import type { EnvironmentReport, JsonValue } from './report-schema.js';
import type { SavedFile } from './saved-file.js';

/** Value of `schema`; the number rises when a field changes its meaning or is removed. */
export const STATISTICS_SCHEMA = 'fang-prune-statistics/1';

/**
 * Measurements of a dense model, as plain data: the contents of `statistics.json`. Sums over tokens are in
 * `statistics.safetensors`, see `tensorNames`.
 */
export interface SavedStatistics extends SavedFile {
  readonly schema: typeof STATISTICS_SCHEMA;
  /** Machine and engine of the run. */
  readonly environment?: EnvironmentReport;
  /** Key of runs with the same statistics. */
  readonly run?: string;
  /** Method that the statistics were collected for. */
  readonly method: string;
  readonly seed: number;
  /** Sums per channel: `moments` (means and variances) or `gram` (also Gram matrices). */
  readonly sums: StatisticsKind;
  /** `loss` and `divergence`: the metric's curvature at each module's output is among the tensors. */
  readonly metric: MetricName;
  /** All options of the measurement; later runs use its `grouping` and `weighting`. */
  readonly settings: Readonly<Record<string, JsonValue>>;
  /** In a shard, `windowCount` is that of the shard, and the other fields are those of all windows. */
  readonly calibration: CalibrationProvenance;
  /** Shard of the windows; absent: all windows. */
  readonly shard?: SavedShard;
  readonly modules: readonly SavedModule[];
  /** Mixtures, with experts ordered by the cost of their removal; absent without mixtures. */
  readonly experts?: readonly SavedMixture[];
  readonly remarks: readonly string[];
}

/** A mixture of experts. */
export interface SavedMixture extends Pick<PrunableModule, 'index' | 'block' | 'kind'> {
  /** Whether neurons inside its experts were ordered too. */
  readonly neurons: boolean;
  /** Present if its experts were not ordered: in a shard. */
  readonly ordered?: false;
  /** Shapes of its contexts; absent if tokens were not clustered. */
  readonly contexts?: Pick<SavedContexts, 'contextCount' | 'typicalCount'>;
}

/** One of the shards that the windows were divided into. */
export interface SavedShard {
  /** From 1. */
  readonly index: number;
  readonly count: number;
  /** Index of its first window among all windows. */
  readonly firstWindow: number;
}

/** A module that was measured. */
export interface SavedModule extends Pick<PrunableModule, 'index' | 'block' | 'kind'> {
  /** Shapes of its contexts; absent if neurons were not grouped by function. */
  readonly contexts?: SavedContexts;
}

/** Shapes of contexts. */
export interface SavedContexts {
  /** Name of the clustered value. */
  readonly feature: string;
  readonly featureCount: number;
  readonly componentCount: number;
  readonly contextCount: number;
  /** Number of typical tokens per context. */
  readonly typicalCount: number;
}

/** Tensors of the model as a whole: T tokens in W windows, L blocks. */
export const MODEL_TENSORS = {
  /** int32 `[W, T / W]`: token ids. */
  windows: 'windows',
  /** float64 `[L]` */
  blockChange: 'block_change',
  /** float64 `[L]`; absent without gradients. */
  sensitivity: 'sensitivity',
} as const;

/**
 * Tensors of one module: N channels, O outputs, K contexts, D features, C components; E experts removed in S steps, with U
 * units of neurons each. Symmetric matrices are lower triangles, row by row.
 */
export function tensorNames({ index, block, kind }: Pick<PrunableModule, 'index' | 'block' | 'kind'>) {
  const name = `block.${block}.${kind}.${index}`;
  return {
    /** Sums over all channels, or over a function group's; see `sumNames`. */
    sumsOf: (group?: number) => (group === undefined ? name : `${name}.group.${group}`),
    /** float32, triangle of `[O, O]` */
    curvature: `${name}.curvature`,
    /** float32 `[K, N]` */
    affinity: `${name}.affinity`,
    /** int32 `[N]`: function group, -1 for the shared one */
    groups: `${name}.groups`,
    /** float64 `[K, C]` */
    centers: `${name}.contexts.centers`,
    /** int32 `[T]` */
    contextOfToken: `${name}.contexts.of_token`,
    /** int32 `[K, typicalCount]`, filled up with -1 */
    typicalTokens: `${name}.contexts.typical`,
    /** float64 `[D]` */
    pcaMean: `${name}.pca.mean`,
    /** float32 `[D, C]` */
    pcaComponents: `${name}.pca.components`,
    /** float64 `[C]` */
    pcaVariances: `${name}.pca.variances`,
    /** float64 `[E]`: scores, ascending in the order of removal; float64 `[S]`: cost of each step */
    expertScores: `${name}.order.scores`,
    expertCosts: `${name}.order.costs`,
    /** int32 `[K, E]`: tokens of each context that go to each expert */
    routing: `${name}.contexts.routing`,
    /** float64 `[E, U]` each: scores and costs of the neurons inside each expert */
    neuronScores: `${name}.neurons.scores`,
    neuronCosts: `${name}.neurons.costs`,
  };
}

/** Tensors of some channels' sums. */
export const sumNames = (of: string) => ({
  /** float64 `[N]` */
  mean: `${of}.mean`,
  /** float64 `[N]` */
  variance: `${of}.variance`,
  /** float32, triangle of `[N, N]`: the Gram matrix minus the product of the means, which can be much larger */
  covariance: `${of}.covariance`,
});
