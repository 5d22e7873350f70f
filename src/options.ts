import type { ModuleKind } from './architecture/layout.js';
import type { CompensationAdapter } from './compensation/adapter.js';
import {
  createAdapter,
  METHODS,
  type MethodName,
  type MethodSettings,
  resolveAdapter,
} from './compensation/adapters.js';
import { definedOf } from './defined-of.js';
import { type BlockSparsity, BUDGET, type BudgetOptions, resolveBlockSparsity } from './options/budget.js';
import { CALIBRATION_DEFAULTS, type CalibrationOptions } from './options/calibration.js';
import {
  FUNCTIONS,
  type FunctionOptions,
  type ResolvedGrouping,
  type ResolvedWeighting,
  resolveGrouping,
  resolveWeighting,
} from './options/groups.js';
import { ALLOCATION_TAKES, findCombination, ruleMeasure } from './options/names.js';
import { checkEffect, checkOptions, defaultsOf, type Resolved, type RunFacts } from './options/option.js';
import { RUN, type RunOptions } from './options/run.js';
import { type MethodChoice, SCORE, type ScoreOptions, takenByMethod } from './options/score.js';

export type { BlockSparsity, HeadUnit, ModuleSelection } from './options/budget.js';
export {
  type CalibrationOptions,
  type CalibrationSource,
  type GenerateOptions,
  type ResolvedCalibration,
  resolveCalibration,
} from './options/calibration.js';
export {
  GROUPING_DEFAULTS,
  type GroupingOptions,
  type ResolvedGrouping,
  WEIGHTING_DEFAULTS,
  type WeightingOptions,
} from './options/groups.js';
export {
  ALLOCATIONS,
  type AllocationName,
  COMBINATIONS,
  FEATURES,
  type FeaturesName,
  METRICS,
  type MetricName,
  ruleMeasure,
} from './options/names.js';
export type { MethodChoice } from './options/score.js';

/** Everything a pruning run can be told, independent of where model and result live. */
export interface PruneOptions extends BudgetOptions, ScoreOptions, FunctionOptions, RunOptions {}

/** A row for each of `PruneOptions`. */
export const PRUNE_ROWS = { ...BUDGET, ...SCORE, ...FUNCTIONS, ...RUN } as const;

/** What is used where nothing is said. */
export const PRUNE_DEFAULTS = {
  allocation: 'uniform',
  metric: 'output',
  ...defaultsOf(PRUNE_ROWS),
  calibration: CALIBRATION_DEFAULTS,
} as const;

/** Options that were checked, with defaults filled in. */
export interface ResolvedOptions
  extends Omit<
    Required<Resolved<PruneOptions, typeof PRUNE_ROWS & { readonly allocation: Decided; readonly metric: Decided }>>,
    'method' | 'modules' | 'grouping' | 'weighting' | 'skipBlocks' | 'blockSparsity'
  > {
  readonly methodName: string;
  readonly adapter: CompensationAdapter;
  /** Orders the dense model's units for allocations that compare modules: the adapter, with scores taken anew on the way. */
  readonly orderAdapter: CompensationAdapter;
  /** Options that the method or the allocation takes and others do not. */
  readonly takes: ReadonlySet<string>;
  /** What calibration is like where the user says nothing. */
  readonly calibrationDefaults: Pick<CalibrationOptions, 'generate'>;
  readonly modules: ReadonlySet<ModuleKind>;
  /** Whether the user named them: what cannot be pruned is then refused, else it stays. */
  readonly modulesNamed: boolean;
  readonly grouping: ResolvedGrouping | undefined;
  readonly weighting: ResolvedWeighting;
  /** Widths that `minimumWidth` is a fraction of, by module index, where they are not the model's own: in a later shot. */
  readonly denseWidths?: ReadonlyMap<number, number> | undefined;
  readonly skipBlocks: ReadonlySet<number>;
  readonly blockSparsity: ReadonlyMap<number, BlockSparsity>;
}

/** An option that the method decides where nothing is said. */
interface Decided {
  readonly default: string;
}

/**
 * Checks all options at once and fills in the defaults.
 * @throws OptionError naming the option, what it was and what it may be.
 */
export function resolveOptions(options: PruneOptions): ResolvedOptions {
  checkOptions(options, PRUNE_ROWS);
  const said = definedOf(options);
  const { method = PRUNE_DEFAULTS.method } = said;
  const {
    adapter: chosen = method,
    generate = false,
    grouping: groups = false,
    ...own
  } = findCombination(method) ?? {};
  const filled = { ...PRUNE_DEFAULTS, ...own, ...said };
  const { allocation } = filled;
  const named = filled.modules ?? 'all';
  const modules: ReadonlySet<ModuleKind> = new Set(named === 'all' ? ['ffn', 'attention'] : [named]);
  const { settings, taken } = resolveSettings(chosen, filled);
  const { calibration: _, method: __, ...simple } = filled;
  const resolved: ResolvedOptions = {
    batchSize: undefined,
    minimumWidth: undefined,
    onProgress: undefined,
    signal: undefined,
    ...simple,
    sparsity: options.sparsity,
    dampening: undefined,
    fluctuation: undefined,
    ...taken,
    methodName: typeof method === 'string' ? method : 'custom',
    adapter: resolveAdapter(chosen, settings),
    orderAdapter: resolveOrderAdapter(chosen, settings),
    takes: new Set([...Object.keys(taken), ...(ALLOCATION_TAKES[allocation] ?? [])]),
    calibrationDefaults: { generate },
    modules,
    modulesNamed: filled.modules !== undefined,
    grouping: resolveGrouping(filled.grouping ?? groups),
    weighting: resolveWeighting(filled.weighting),
    skipBlocks: new Set(filled.skipBlocks),
    blockSparsity: resolveBlockSparsity(filled.blockSparsity, {
      modules,
      mayGoWhole: allocation === 'global' && filled.minimumWidth === 0,
    }),
  };
  checkEffect(options, PRUNE_ROWS, factsOf(resolved));
  return resolved;
}

/** Units that leave between two scorings when the dense model's removal order is found. */
const ORDER_STEP = 32;

function resolveOrderAdapter(method: MethodChoice, settings: MethodSettings): CompensationAdapter {
  return method === 'obc' ? createAdapter('obc', { ...settings, step: ORDER_STEP }) : resolveAdapter(method, settings);
}

/** What a run's options say to its method, and the options that it takes with its own defaults filled in. */
function resolveSettings(method: MethodChoice, options: Partial<PruneOptions>) {
  const takes = Object.entries(takenByMethod(method));
  const defaults: object = METHODS[method as MethodName]?.defaults ?? {};
  const values = takes.map(
    ([option, name]) => options[option as keyof PruneOptions] ?? defaults[name as keyof typeof defaults],
  );
  return {
    settings: Object.fromEntries(takes.map(([, name], at) => [name, values[at]])) as MethodSettings,
    taken: Object.fromEntries(takes.map(([option], at) => [option, values[at]])) as Pick<
      ScoreOptions,
      'dampening' | 'fluctuation'
    >,
  };
}

/** What decides whether options have an effect. */
export function factsOf(options: ResolvedOptions): RunFacts {
  const { modules, takes, grouping, adapter } = options;
  const tokens = { readsTokens: readsTokens(options), measuresBlocks: adapter.needs !== 'none' };
  return { modules, takes, isGrouped: grouping !== undefined, ...tokens };
}

/** Whether a run looks at calibration tokens at all. */
export function readsTokens({ adapter, allocation, grouping, metric }: ResolvedOptions): boolean {
  return (
    adapter.needs !== 'none' || metric !== 'output' || grouping !== undefined || ruleMeasure(allocation) !== undefined
  );
}
