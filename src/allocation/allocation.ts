import type { AttentionType, ModuleKind } from '../architecture/layout.js';
import type { CompensationAdapter } from '../compensation/adapter.js';

/**
 * Measures of every block of the dense model for an allocation: FC, how much the block changes its input,
 * in [0, 2]; or the mean |h dL/dh| of its neurons, which takes a pass backwards.
 */
export type BlockMeasure = 'blockChange' | 'sensitivity';

/** A module that sparsity is allocated to, and what was measured of it. */
export interface ModuleMeasures extends Readonly<Partial<Record<BlockMeasure, number>>> {
  readonly block: number;
  readonly kind: ModuleKind;
  /** Of attention; default `full`. */
  readonly attentionType?: AttentionType | undefined;
  /** Index of the module whose keys and values it reads, where several share them: all of those lose equally many heads. */
  readonly keyValueSource?: number | undefined;
  /** Prunable parameters. */
  readonly parameterCount: number;
  /** Neurons, or query heads. */
  readonly unitCount: number;
  /** Equal steps that it shrinks by: neurons, heads or KV groups, as `headUnit` says. */
  readonly stepCount: number;
  /** Prunable parameters that leave with one step; where steps differ, with the smallest. */
  readonly parametersPerStep: number;
  /** Those of each further step, where steps differ: entire experts, and neurons inside them. */
  readonly stepParameters?: Float64Array | undefined;
  /** Steps that remain in any case. */
  readonly minimumKept: number;
  /** Steps kept are a multiple of this, or all. */
  readonly multiple: number;
  /** Sparsity that the options give it, 0 in a block that is skipped; it holds whatever the allocation says. */
  readonly fixed?: number | undefined;
  /** In which order its units leave the dense model, where the allocation has an `orderBy`. */
  readonly order?: MeasuredOrder | undefined;
}

/** In which order a module's units leave the dense model, and what each step costs. */
export interface MeasuredOrder {
  /** Importance by unit, rising in the order of removal; length `unitCount`. */
  readonly scores: Float64Array;
  /** Cost of each further step, never falling; length `stepCount`. */
  readonly costs: Float64Array;
}

/** Inputs of an allocation. */
export interface AllocationProblem {
  /** Fraction of all the modules' parameters to remove, in [0, 1). */
  readonly sparsity: number;
  /** In the order of the model. */
  readonly modules: readonly ModuleMeasures[];
  /** All attention of one type loses equally many heads: if the sparsities differ, their mean. */
  readonly evenHeads: boolean;
}

/** How a method scores: by itself, and with scores taken again while units leave. */
export interface OrderingMethod {
  readonly adapter: CompensationAdapter;
  readonly orderAdapter: CompensationAdapter;
}

/** How one sparsity is spread over modules. Rows of `ALLOCATIONS`; one's own is given as the option `allocation`. */
export interface Allocation {
  readonly description?: string;
  /** Where it was published. */
  readonly paper?: string;
  /** Default: none. */
  readonly measures?: readonly BlockMeasure[];
  /** Chooses what orders each module's units on the dense model. Absent: they are not ordered. */
  orderBy?(method: OrderingMethod): CompensationAdapter;
  /** That order also decides which units leave, rather than scores of the part-pruned model. Default false. */
  readonly ordersDecide?: boolean;
  /** Takes out an FFN whole where `minimumWidth` is 0. Default false. */
  readonly removesEntireFfns?: boolean;
  /** Weighs steps of different sizes (`stepParameters`), so that neurons leave experts too. Default false: only entire experts do. */
  readonly takesUnevenSteps?: boolean;
  /**
   * Allocations of the same measures, by name, that are tried on some calibration windows and compared on others; the best one is
   * taken. `allocate` stands in where there is nothing to compare them on. Default: none.
   */
  readonly candidates?: Readonly<Record<string, Allocation>>;
  /**
   * The part of its result that depends on no measure and is checked before measuring: whether the budget can be met, or also how
   * many heads leave. Default: nothing.
   */
  readonly checkable?: 'budget' | 'budget and heads';
  /**
   * The sparsities are taken as they are, to the nearest step; the report says what they came to.
   * @returns One sparsity a module, in [0, 1), in their order; 1 for an FFN that goes entirely.
   * @example
   * const sparingTheFirst = ({ sparsity, modules }) => modules.map(({ block }) => (block === 0 ? 0 : sparsity));
   */
  allocate(problem: AllocationProblem): ArrayLike<number>;
}

/** Steps that come nearest to a sparsity in [0, 1], within what must remain; none at 0, multiple or not. */
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
export const parametersOf = (modules: readonly ModuleMeasures[]): number =>
  modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
