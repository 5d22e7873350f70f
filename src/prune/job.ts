import type { OutputError } from '../activations/measure-output-error.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { RepairNumerics } from '../compensation/adapter.js';
import type { HealingReport } from '../healing/heal-model.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ResolvedOptions } from '../options.js';
import type { ModelChange, ModuleCut } from '../removal/apply-change.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import type { AnalysedModel, UnderstoodModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { Journal } from '../runtime/journal.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import type { DenseMeasures } from './measure-dense/dense-measures.js';

/** Inputs of a pruning run, independent of files. */
export interface PruneJob {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
  /** Token windows of equal length; may be empty for methods that read no token. */
  readonly windows: readonly Int32Array[];
  readonly options: ResolvedOptions;
  /** Tokens that run through a block together, at least 1. Default `TOKENS_PER_BATCH`. */
  readonly tokensPerBatch?: number | undefined;
  /** Number of windows before these, which other shards read. Absent: no shards. */
  readonly firstWindow?: number | undefined;
  /** Stores rewritten weights until the model is saved. */
  readonly store: StoreTensor;
  /** Creates a store for the hidden states of `windowCount` windows, for one block (the default) or several at once. */
  createStore(windowCount: number, blockCount?: number): TensorStore | Promise<TensorStore>;
  /** Checkpoints of the run. Absent: none are saved. */
  readonly journal?: Journal | undefined;
  /** Windows for healing; absent: the last of the job's own windows are held out. */
  readonly healing?: HealingSource | undefined;
  /** Known context centres in the space of an FFN's principal components, see `ClusteringInput`. Absent: they are fitted. */
  centersOf?(module: PrunableModule): Float64Array | undefined;
}

/** Windows of healing, all of one length. */
export interface HealingSource {
  readonly windows: readonly Int32Array[];
  /** Windows to measure the improvement on. */
  readonly heldOut: readonly Int32Array[];
  /** The dense model, if it is not the model to prune, as in later shots. Default: the job's. */
  readonly teacher?: UnderstoodModel | undefined;
  /** See `HealingRequest.stop`. */
  readonly stop?: boolean | undefined;
}

/** One module after pruning: the remaining units, and the result. */
export interface ModuleOutcome extends ModuleCut {
  /** Loss of the output projection's result on the calibration tokens; absent for methods that read none. */
  readonly error?: OutputError | undefined;
  /** Numerics of the repair of each function group (one group without FANG); undefined for repairs that solve nothing. */
  readonly numerics: readonly (RepairNumerics | undefined)[];
}

/** A compared allocation. */
export interface AllocationCandidate {
  readonly name: string;
  /** Mean of KL(dense || pruned) on the held-out windows, in nats per token, of a draft that was pruned on part of the others. */
  readonly divergence: number;
  readonly chosen: boolean;
}

/** Wall time of one stage. */
export interface StageTiming {
  readonly stage: string;
  readonly ms: number;
}

/** Sums times by stage, in order of first appearance. */
export function joinTimings(...lists: readonly (readonly StageTiming[])[]): StageTiming[] {
  const sums = new Map<string, number>();
  for (const { stage, ms } of lists.flat()) sums.set(stage, (sums.get(stage) ?? 0) + ms);
  return [...sums].map(([stage, ms]) => ({ stage, ms }));
}

/** The pruned model, with measurements and remarks. */
export interface PruneOutcome extends ModelChange {
  readonly model: OnnxModel;
  readonly modules: readonly ModuleOutcome[];
  /** Measurements of the dense model: block change, contexts, function groups. */
  readonly dense: DenseMeasures;
  /** Compared allocations; absent without a comparison. */
  readonly candidates?: readonly AllocationCandidate[] | undefined;
  /** Result of healing; absent where it was not requested. */
  readonly healing?: HealingReport | undefined;
  readonly timings: readonly StageTiming[];
  /** Remarks for readers of the report: raised dampenings, units that could not be removed. */
  readonly remarks: readonly string[];
}
