import type { PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics, StatisticsNeed } from '../../compensation/adapter.js';
import type { ExpertScoreName } from '../../importance/expert-scores.js';
import type { MetricName, ResolvedGrouping, ResolvedOptions } from '../../options.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { DenseMeasures, MixtureRouting } from './dense-measures.js';
import type { ModuleRemovalOrder } from './order-units.js';

/** Saved sums over tokens of every channel. */
export type StatisticsKind = Exclude<StatisticsNeed, 'none'>;

/** Request for one module's statistics. */
export interface StatisticsRequest {
  /** All channels with equal token weights, or each function group's channels with its token weights. */
  readonly of: 'module' | 'groups';
  readonly needs: StatisticsKind;
}

/**
 * Measurements of a dense model: everything that pruning needs of tokens, for any sparsity and method that the options of the
 * measurement cover.
 */
export interface DenseStatistics extends Pick<DenseMeasures, 'sensitivity' | 'functional'> {
  /** Their file, for messages. */
  readonly name: string;
  readonly modules: ReadonlySet<PrunableModule>;
  readonly sums: StatisticsKind;
  readonly seed: number;
  /** Settings of the grouping; absent: neurons were not grouped. */
  readonly grouping: ResolvedGrouping | undefined;
  readonly weighting: ResolvedOptions['weighting'];
  readonly blockChange: Float64Array;
  readonly metric: MetricName;
  /** Removal orders of experts, with costs in the metric; absent modules were not measured. */
  readonly experts: ReadonlyMap<PrunableModule, ModuleRemovalOrder>;
  /** Mixtures with known curvature at their output, so that their experts can be ordered on tokens. */
  readonly mixtures: ReadonlySet<PrunableModule>;
  /** Routing of the tokens of each context; absent modules were not measured, or have no contexts. */
  readonly routings: ReadonlyMap<PrunableModule, MixtureRouting>;
  /** Score that orders the experts. */
  readonly expertScore: ExpertScoreName;
  /** The metric's curvature at each module's output, by module index; absent where `metric` is `output`. */
  readonly curvatures: Pick<TensorStore, 'get'> | undefined;
  /** Remarks of clustering and other steps. */
  readonly remarks: readonly string[];
  /** Reads a module's statistics, one entry per group. @throws ModelFormatError when they are damaged. */
  read(module: PrunableModule, request: StatisticsRequest): Promise<ChannelStatistics[]>;
}
