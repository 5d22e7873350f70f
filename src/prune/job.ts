import type { OutputError } from '../activations/measure-output-error.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { RepairNumerics } from '../compensation/adapter.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ResolvedOptions } from '../options.js';
import type { DecidedRemoval } from '../removal/apply-removals.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import type { DenseObservation } from './dense-observation.js';

/** What a pruning run works on; where it comes from and goes to is the entry's business. */
export interface PruneJob {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
  /** Token windows of equal length; may be empty for methods that look at no token. */
  readonly windows: readonly Int32Array[];
  readonly options: ResolvedOptions;
  /** Keeps rewritten weights until the model is saved. */
  readonly store: StoreTensor;
  /** Makes a place where the hidden states of `windowCount` windows wait, of one block (the default) or of several at once. */
  createStates(windowCount: number, blockCount?: number): HiddenStates | Promise<HiddenStates>;
  /** Context centres known already in the space of an FFN's principal components, see `ClusteringInput`; else they are fitted. */
  centersOf?(module: PrunableModule): Float64Array | undefined;
}

/** One module after pruning: what was decided about it, as it is saved, and what came of it. */
export interface ModuleOutcome extends DecidedRemoval {
  /** What the output map's result lost on the calibration tokens; absent for methods that look at none. */
  readonly error?: OutputError | undefined;
  /** How well posed the repair of each function group was (one group without FANG), as far as it solved anything. */
  readonly numerics: readonly (RepairNumerics | undefined)[];
}

/** Wall time of one stage. */
export interface StageTiming {
  readonly stage: string;
  readonly ms: number;
}

/** The pruned model and what happened on the way. */
export interface PruneOutcome {
  readonly model: OnnxModel;
  readonly modules: readonly ModuleOutcome[];
  /** What was seen of the dense model: block change, contexts, function groups. */
  readonly dense: DenseObservation;
  readonly timings: readonly StageTiming[];
  /** What a reader of the report should know: raised dampenings, units that could not be removed. */
  readonly remarks: readonly string[];
}
