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
  /** All channels with all tokens alike, or each function group's under its token weights. */
  readonly of: 'module' | 'groups';
  readonly needs: StatisticsKind;
}

/**
 * Measurements of a dense model: all that pruning needs of tokens, whatever sparsity and method follow, as far
 * as the options of that measurement went.
 */
export interface DenseStatistics extends Pick<DenseMeasures, 'sensitivity' | 'functional'> {
  /** For messages: their file. */
  readonly name: string;
  readonly modules: ReadonlySet<PrunableModule>;
  readonly sums: StatisticsKind;
  readonly seed: number;
  /** How neurons were grouped; absent: they were not. */
  readonly grouping: ResolvedGrouping | undefined;
  readonly weighting: ResolvedOptions['weighting'];
  readonly blockChange: Float64Array;
  readonly metric: MetricName;
  /** In which order experts leave, and what that costs in the metric; absent modules were not measured. */
  readonly experts: ReadonlyMap<PrunableModule, ModuleRemovalOrder>;
  /** Mixtures at whose output the metric's curvature is known, so that their experts can be ordered on tokens. */
  readonly mixtures: ReadonlySet<PrunableModule>;
  /** Where the tokens of each context go in a mixture; absent modules were not measured, or their tokens not told apart. */
  readonly routings: ReadonlyMap<PrunableModule, MixtureRouting>;
  /** Score that orders the experts. */
  readonly expertScore: ExpertScoreName;
  /** The metric's curvature at each module's output, by module index; absent where `metric` is `output`. */
  readonly curvatures: Pick<TensorStore, 'get'> | undefined;
  /** Remarks of clustering and other steps. */
  readonly remarks: readonly string[];
  /** Reads a module's statistics, one entry a group. @throws ModelFormatError when they are damaged. */
  read(module: PrunableModule, request: StatisticsRequest): Promise<ChannelStatistics[]>;
}
