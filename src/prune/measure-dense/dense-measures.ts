import type { PrunableModule } from '../../architecture/layout.js';
import type { CompensationAdapter } from '../../compensation/adapter.js';
import type { NeuronGroups } from '../../grouping/group-neurons.js';
import type { Pca } from '../../linalg/pca.js';
import type { ResolvedGrouping } from '../../options.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { ModuleRemovalOrder } from './order-units.js';

/** Contexts of one FFN's tokens, and how to tell a new token's. */
export interface ModuleContexts {
  /** Value that the contexts are seen in. */
  readonly feature: string;
  readonly pca: Pca;
  /** `[contextCount, pca.componentCount]` row-major. */
  readonly centers: Float64Array;
  readonly contextCount: number;
  /** Context of every calibration token in the dense model. */
  readonly contextOfToken: Int32Array;
  /** Tokens nearest to each context's centre, nearest first: what a reader of the report is shown. */
  readonly typicalTokens: readonly Int32Array[];
}

/** An FFN whose neurons are grouped by function. */
export interface FunctionalModule {
  readonly contexts: ModuleContexts;
  readonly groups: NeuronGroups;
  /** `S[k][j]`, `[contextCount, neurons]` row-major: how much each context uses each neuron. */
  readonly affinity: Float64Array;
}

/** Where the tokens of each context go in a mixture of experts. */
export interface MixtureRouting {
  readonly contexts: Pick<ModuleContexts, 'contextCount' | 'contextOfToken' | 'typicalTokens'>;
  /** `[contextCount, experts]` row-major: tokens of a context that go to an expert. */
  readonly tokens: Int32Array;
}

/** Measurements of the dense model, as far as the options need them. */
export interface DenseMeasures {
  /** FC by block. */
  readonly blockChange?: Float64Array;
  /** Mean |h dL/dh| per neuron by block: how much the loss hangs on it. */
  readonly sensitivity?: Float64Array;
  readonly functional: ReadonlyMap<PrunableModule, FunctionalModule>;
  /** In which order units leave and what that costs, for an allocation that compares modules. */
  readonly orders?: ReadonlyMap<PrunableModule, ModuleRemovalOrder>;
  /** Of mixtures of experts, where tokens are told apart by context. */
  readonly routings?: ReadonlyMap<PrunableModule, MixtureRouting>;
}

/** Measurements of the forward pass. */
export interface ForwardMeasures {
  readonly contexts: ReadonlyMap<PrunableModule, ModuleContexts>;
  /** FC by block. */
  readonly blockChange: Float64Array;
  /** Of methods whose orders need no gradient. */
  readonly orders: ReadonlyMap<PrunableModule, ModuleRemovalOrder>;
}

/** Measurements of a module in the backward pass. */
export interface BackwardMeasures {
  /** `[contextCount, neurons]` row-major; of FFNs, where it is wanted. */
  affinity?: Float64Array;
  order?: ModuleRemovalOrder;
}

/** Measurements to make of the dense model. */
export interface DenseNeeds {
  readonly blockChange: boolean;
  readonly sensitivity: boolean;
  readonly grouping: ResolvedGrouping | undefined;
  /** Modules that take part; contexts, affinity and sensitivity are those of the FFNs among them. */
  readonly modules: readonly PrunableModule[];
  /** The metric's curvature at each module's output, by module index, when the metric asks for it. */
  readonly curvatures: TensorStore | undefined;
  /** The method whose scores, removal orders and costs are wanted, when the allocation asks for them. */
  readonly order: CompensationAdapter | undefined;
  /** Modules whose order is wanted. Default: all. */
  readonly ordered?: readonly PrunableModule[] | undefined;
}

/** The method that orders a module's units, where an order is wanted. */
export const orderOf = (
  module: PrunableModule,
  { order, ordered }: Pick<DenseNeeds, 'order' | 'ordered'>,
): CompensationAdapter | undefined => (ordered === undefined || ordered.includes(module) ? order : undefined);

/** Whether measuring the dense model runs the loss's gradients. */
export function needsGradients({ grouping, sensitivity, curvatures }: DenseNeeds): boolean {
  return grouping !== undefined || sensitivity || curvatures !== undefined;
}
