import type { PrunableModule } from '../../architecture/layout.js';
import type { CompensationAdapter } from '../../compensation/adapter.js';
import type { NeuronGroups } from '../../grouping/group-neurons.js';
import type { Pca } from '../../linalg/pca.js';
import type { ResolvedGrouping } from '../../options.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { ModuleRemovalOrder } from './order-units.js';

/** Contexts of one FFN's tokens, and their centres, by which new tokens are assigned. */
export interface ModuleContexts {
  /** Value that is clustered into contexts. */
  readonly feature: string;
  readonly pca: Pca;
  /** `[contextCount, pca.componentCount]` row-major. */
  readonly centers: Float64Array;
  readonly contextCount: number;
  /** Context of every calibration token in the dense model. */
  readonly contextOfToken: Int32Array;
  /** Tokens nearest to each context's centre, nearest first, for the report. */
  readonly typicalTokens: readonly Int32Array[];
}

/** An FFN whose neurons are grouped by function. */
export interface FunctionalModule {
  readonly contexts: ModuleContexts;
  readonly groups: NeuronGroups;
  /** `S[k][j]`, `[contextCount, neurons]` row-major: how much each context uses each neuron. */
  readonly affinity: Float64Array;
}

/** Routing of the tokens of each context in a mixture of experts. */
export interface MixtureRouting {
  readonly contexts: Pick<ModuleContexts, 'contextCount' | 'contextOfToken' | 'typicalTokens'>;
  /** `[contextCount, experts]` row-major: number of a context's tokens that are routed to an expert. */
  readonly tokens: Int32Array;
}

/** Measurements of the dense model, as far as the options need them. */
export interface DenseMeasures {
  /** FC by block. */
  readonly blockChange?: Float64Array;
  /** Mean |h dL/dh| over tokens and neurons, by block. */
  readonly sensitivity?: Float64Array;
  readonly functional: ReadonlyMap<PrunableModule, FunctionalModule>;
  /** Removal orders with costs, for an allocation that compares modules. */
  readonly orders?: ReadonlyMap<PrunableModule, ModuleRemovalOrder>;
  /** Of mixtures of experts, if tokens have contexts. */
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
  /** `[contextCount, neurons]` row-major; of FFNs, if needed. */
  affinity?: Float64Array;
  order?: ModuleRemovalOrder;
}

/** Measurements to make of the dense model. */
export interface DenseNeeds {
  readonly blockChange: boolean;
  readonly sensitivity: boolean;
  readonly grouping: ResolvedGrouping | undefined;
  /** Modules to measure; contexts, affinity and sensitivity only of the FFNs among them. */
  readonly modules: readonly PrunableModule[];
  /** Store for the metric's curvature at each module's output, by module index; undefined for a metric without. */
  readonly curvatures: TensorStore | undefined;
  /** The method that orders units, if the allocation needs removal orders with costs. */
  readonly order: CompensationAdapter | undefined;
  /** Modules to order. Default: all. */
  readonly ordered?: readonly PrunableModule[] | undefined;
}

/** The method that orders a module's units, if they are to be ordered. */
export const orderOf = (
  module: PrunableModule,
  { order, ordered }: Pick<DenseNeeds, 'order' | 'ordered'>,
): CompensationAdapter | undefined => (ordered === undefined || ordered.includes(module) ? order : undefined);

/** Whether measuring the dense model runs the loss's gradients. */
export function needsGradients({ grouping, sensitivity, curvatures }: DenseNeeds): boolean {
  return grouping !== undefined || sensitivity || curvatures !== undefined;
}
