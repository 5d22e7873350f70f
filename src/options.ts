import type { Allocation } from './allocation/allocation.js';
import { ALLOCATIONS } from './allocation/allocations.js';
import { MODULE_KINDS, type ModuleKind } from './architecture/layout.js';
import type { CompensationAdapter } from './compensation/adapter.js';
import { resolveMethod } from './compensation/methods.js';
import { METRICS } from './importance/metrics.js';
import {
  type AllocationChoice,
  type BlockSparsity,
  BUDGET,
  type BudgetOptions,
  resolveBlockSparsity,
} from './options/budget.js';
import { CALIBRATION_DEFAULTS } from './options/calibration.js';
import {
  FUNCTIONS,
  type FunctionOptions,
  type ResolvedGrouping,
  type ResolvedWeighting,
  resolveGrouping,
  resolveWeighting,
} from './options/groups.js';
import { HEALING, type HealOptions, type ResolvedHealing, resolveHealing } from './options/healing.js';
import { fractionOf } from './options/kinds.js';
import { type Checked, checkEffect, checkOptions, defaultsOf, type Resolved, type RunFacts } from './options/option.js';
import { RUN, type RunOptions } from './options/run.js';
import { SCORE, type ScoreOptions } from './options/score.js';

export type { AllocationName } from './allocation/allocations.js';
export type { MethodChoice } from './compensation/methods.js';
export type { MetricName } from './importance/metrics.js';
export type { AllocationChoice, BlockSparsity, HeadUnit, ModuleSelection } from './options/budget.js';
export {
  type CalibrationOptions,
  type CalibrationSource,
  type GenerateOptions,
  type ResolvedCalibration,
  resolveCalibration,
} from './options/calibration.js';
export {
  type FeaturesName,
  GROUPING_DEFAULTS,
  type GroupingOptions,
  type ResolvedGrouping,
  type WeightingOptions,
} from './options/groups.js';
export type { HealingOptions, ResolvedHealing } from './options/healing.js';
export type { Fraction } from './options/kinds.js';

/** Options of pruning, independent of paths. */
export interface PruneOptions extends BudgetOptions, ScoreOptions, FunctionOptions, HealOptions, RunOptions {}

/** Rows of `PruneOptions`. */
export const PRUNE_ROWS = { ...BUDGET, ...SCORE, ...FUNCTIONS, ...HEALING, ...RUN } as const;

/** Default options of pruning. */
export const PRUNE_DEFAULTS = {
  allocation: 'uniform',
  metric: 'output',
  ...defaultsOf(PRUNE_ROWS),
  calibration: CALIBRATION_DEFAULTS,
} as const;

/** Checked options with defaults. */
export interface ResolvedOptions
  extends Omit<
    Required<Resolved<PruneOptions, typeof PRUNE_ROWS & { readonly metric: Decided }>>,
    'sparsity' | 'method' | 'modules' | 'allocation' | 'grouping' | 'weighting' | 'heal' | 'blockSparsity'
  > {
  readonly sparsity: number;
  readonly methodName: string;
  readonly adapter: CompensationAdapter;
  /** Orders the dense model's units for allocations that compare modules; it scores again after each removal. */
  readonly orderAdapter: CompensationAdapter;
  /** Method-specific options that this method uses. */
  readonly takes: ReadonlySet<string>;
  /** Default calibration of the method. */
  readonly calibrationDefaults: { readonly generate: boolean };
  readonly modules: ReadonlySet<ModuleKind>;
  /** Whether the user named modules: then unprunable ones are errors, otherwise remarks. */
  readonly modulesNamed: boolean;
  readonly allocation: Allocation;
  readonly allocationName: string;
  readonly grouping: ResolvedGrouping | undefined;
  readonly weighting: ResolvedWeighting;
  /** Absent: the model is not healed. */
  readonly heal: ResolvedHealing | undefined;
  /** Dense widths by module index, the base of `minimumWidth` in later shots. */
  readonly denseWidths?: ReadonlyMap<number, number> | undefined;
  readonly blockSparsity: ReadonlyMap<number, BlockSparsity<number>>;
}

/** Method defaults of an option. */
interface Decided {
  readonly default: string;
}

/**
 * Checks all options and fills in defaults.
 * @throws OptionError naming the option, its value and the allowed values.
 */
export function resolveOptions(options: PruneOptions): ResolvedOptions {
  const checked = checkOptions(options, PRUNE_ROWS);
  const resolved = fillIn(checked);
  checkEffect(checked, PRUNE_ROWS, factsOf(resolved));
  return resolved;
}

/** Fills in checked options. @throws OptionError for contradictions */
export function fillIn(checked: Checked<PruneOptions>): ResolvedOptions {
  const {
    run,
    settings,
    name: methodName,
    takes,
    ...adapters
  } = resolveMethod(checked.method ?? PRUNE_DEFAULTS.method, checked);
  const { generate = false, ...own } = run;
  const { calibration: _, method: __, ...filled } = { ...PRUNE_DEFAULTS, ...own, ...checked };
  const chosen = resolveAllocation(filled.allocation);
  const { modules: named = 'all', minimumWidth } = filled;
  const modules: ReadonlySet<ModuleKind> = new Set(named === 'all' ? MODULE_KINDS : [named]);
  const mayRemoveEntireFfn = mayRemoveEntireFfns({ ...chosen, minimumWidth });
  return {
    onProgress: undefined,
    signal: undefined,
    ...filled,
    ...adapters,
    ...chosen,
    sparsity: fractionOf(checked.sparsity),
    minimumWidth,
    experts: filled.experts,
    dampening: settings.dampening,
    fluctuation: settings.fluctuation,
    methodName,
    takes: new Set(takes),
    calibrationDefaults: { generate },
    modules,
    modulesNamed: filled.modules !== undefined,
    grouping: resolveGrouping(filled.grouping ?? false),
    weighting: resolveWeighting(filled.weighting),
    heal: resolveHealing(filled.heal),
    blockSparsity: resolveBlockSparsity(filled.blockSparsity, { modules, mayRemoveEntireFfn }),
  };
}

/** Measures of a function as allocation: they need no backward pass. */
const BARE_MEASURES = ['blockChange'] as const;

function resolveAllocation(choice: AllocationChoice): Pick<ResolvedOptions, 'allocation' | 'allocationName'> {
  if (typeof choice === 'string') return { allocation: ALLOCATIONS[choice], allocationName: choice };
  const allocation = typeof choice === 'function' ? { measures: BARE_MEASURES, allocate: choice } : choice;
  return { allocation, allocationName: 'custom' };
}

/** Facts of a run that decide whether options have an effect. */
export function factsOf(options: ResolvedOptions): RunFacts {
  const { modules, takes, grouping, adapter, allocation } = options;
  return {
    modules,
    takes,
    removesEntireFfns: allocation.removesEntireFfns === true,
    isGrouped: grouping !== undefined,
    readsTokens: readsTokens(options),
    measuresBlocks: adapter.needs !== 'none',
  };
}

/** Experts are scored only from tokens. */
const onlyExperts = (modules: ReadonlySet<ModuleKind>): boolean => modules.size === 1 && modules.has('experts');

/** Whether a run removes no units. */
export const removesNothing = ({ sparsity, experts, blockSparsity }: ResolvedOptions): boolean =>
  sparsity === 0 && experts === undefined && blockSparsity.size === 0;

/** Whether a run reads calibration tokens at all. */
export function readsTokens(options: ResolvedOptions): boolean {
  const { adapter, allocation, grouping, metric, modules } = options;
  const adapters = [adapter, allocation.orderBy?.(options)];
  const isMeasured =
    METRICS[metric].hasCurvature || onlyExperts(modules) || grouping !== undefined || allocation.measures !== undefined;
  return isMeasured || adapters.some((found) => found !== undefined && found.needs !== 'none');
}

/** Whether an entire FFN may be removed. */
export const mayRemoveEntireFfns = ({
  allocation,
  minimumWidth,
}: Pick<ResolvedOptions, 'allocation' | 'minimumWidth'>): boolean =>
  allocation.removesEntireFfns === true && minimumWidth === 0;
