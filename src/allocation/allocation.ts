import type { AttentionType, ModuleKind } from '../architecture/layout.js';
import type { CompensationAdapter } from '../compensation/adapter.js';
import { sum } from '../linalg/sum.js';

export const BLOCK_MEASURES = ['blockChange', 'sensitivity'] as const;

/**
 * Measures of every block of the dense model for an allocation: FC, how much the block changes its input,
 * in [0, 2]; or the mean |h dL/dh| of its neurons, which needs a backward pass.
 */
export type BlockMeasure = (typeof BLOCK_MEASURES)[number];

/** Checks of an allocation that need no measures. */
export const CHECKABLE = ['budget', 'budget and heads'] as const;

/** A prunable module and its measures. */
export interface ModuleMeasures extends Readonly<Partial<Record<BlockMeasure, number>>> {
  readonly block: number;
  readonly kind: ModuleKind;
  /** Only of attention. Default `full`. */
  readonly attentionType?: AttentionType | undefined;
  /** Index of the module whose keys and values it reads, where several share them: all of those lose the same number of heads. */
  readonly keyValueSource?: number | undefined;
  /** Prunable parameters. */
  readonly parameterCount: number;
  /** Neurons, or query heads. */
  readonly unitCount: number;
  /** Equal pruning steps: neurons, heads or KV groups, by `headUnit`. */
  readonly stepCount: number;
  /** Prunable parameters removed by one step; the smallest where steps differ. */
  readonly parametersPerStep: number;
  /** Parameters of each step, where steps differ: entire experts, and neurons inside them. */
  readonly stepParameters?: Float64Array | undefined;
  /** Steps that always remain. */
  readonly minimumKept: number;
  /** Steps kept are a multiple of this, or all. */
  readonly multiple: number;
  /** Sparsity fixed by the options, 0 in a skipped block; the allocation cannot change it. */
  readonly fixed?: number | undefined;
  /** Removal order of its units in the dense model, where the allocation has an `orderBy`. */
  readonly order?: MeasuredOrder | undefined;
}

/** Removal order of a module's units in the dense model, with the cost of each step. */
export interface MeasuredOrder {
  /** Importance by unit, rising in the order of removal; length `unitCount`. */
  readonly scores: Float64Array;
  /** Cost of each successive step, non-decreasing; length `stepCount`. */
  readonly costs: Float64Array;
}

/** Inputs of an allocation. */
export interface AllocationProblem {
  /** Fraction of all the modules' parameters to remove, in [0, 1). */
  readonly sparsity: number;
  /** In the order of the model. */
  readonly modules: readonly ModuleMeasures[];
  /** All attention of one type loses the same number of heads: the mean where sparsities differ. */
  readonly evenHeads: boolean;
}

/** Adapters of a method: its scores once, and its scores repeated during removal. */
export interface OrderingMethod {
  readonly adapter: CompensationAdapter;
  readonly orderAdapter: CompensationAdapter;
}

/** Distributes one sparsity over modules. Rows of `ALLOCATIONS`; pass your own as the option `allocation`. */
export interface Allocation {
  readonly description?: string;
  /** Citation of the published source. */
  readonly paper?: string;
  /** Default: none. */
  readonly measures?: readonly BlockMeasure[];
  /** Selects the adapter that orders each module's units on the dense model. Absent: they are not ordered. */
  orderBy?(method: OrderingMethod): CompensationAdapter;
  /** That order also selects the units to remove, instead of scores of the partly pruned model. Default false. */
  readonly ordersDecide?: boolean;
  /** May remove an entire FFN where `minimumWidth` is 0. Default false. */
  readonly removesEntireFfns?: boolean;
  /** Supports steps of different sizes (`stepParameters`), so that neurons inside experts are removed too. Default false: only entire experts. */
  readonly takesUnevenSteps?: boolean;
  /**
   * Allocations of the same measures by name: drafts are pruned with each on some calibration windows and compared on
   * others, and the best is used. `allocate` is the fallback without windows to compare on. Default: none.
   */
  readonly candidates?: Readonly<Record<string, Allocation>>;
  /**
   * What can be checked before measuring, because it depends on no measure: whether the budget can be met, or also the
   * head counts. Default: nothing.
   */
  readonly checkable?: (typeof CHECKABLE)[number];
  /**
   * The sparsities are used as they are, rounded to the nearest step; the report has the achieved ones.
   * @returns One sparsity per module, in [0, 1), in their order; 1 for an FFN that is removed entirely.
   * @example
   * const sparingTheFirst = ({ sparsity, modules }) => modules.map(({ block }) => (block === 0 ? 0 : sparsity));
   */
  allocate(problem: AllocationProblem): ArrayLike<number>;
}

/** Steps to remove: nearest to a sparsity in [0, 1], with at least `minimumKept` remaining; 0 at sparsity 0, for any `multiple`. */
export function stepsOf(
  { stepCount, minimumKept, multiple }: Pick<ModuleMeasures, 'stepCount' | 'minimumKept' | 'multiple'>,
  sparsity: number,
): number {
  if (sparsity === 0) return 0;
  const least = Math.ceil(minimumKept / multiple) * multiple;
  const remaining = Math.round(((1 - sparsity) * stepCount) / multiple) * multiple;
  return stepCount - Math.min(stepCount, Math.max(least, remaining));
}

/** Parameters of some modules together. */
export const parametersOf = (modules: readonly Pick<ModuleMeasures, 'parameterCount'>[]): number =>
  sum(modules.map(({ parameterCount }) => parameterCount));

/** Parameters of the first steps of a module. */
export const parametersOfSteps = ({ stepParameters, parametersPerStep }: ModuleMeasures, count: number): number =>
  stepParameters?.subarray(0, count).reduce((sum, parameters) => sum + parameters, 0) ?? count * parametersPerStep;
