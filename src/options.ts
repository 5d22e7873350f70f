import type { Allocation } from './allocation/allocation.js';
import { ALLOCATIONS, type AllocationName } from './allocation/allocations.js';
import type { ModuleKind } from './architecture/layout.js';
import { type GenerateOptions, type ResolvedGenerate, resolveGenerate } from './calibration/generate-options.js';
import type { TokenSource } from './calibration/token-source.js';
import type { CompensationAdapter } from './compensation/adapter.js';
import { type MethodChoice, resolveMethod } from './compensation/methods.js';
import { definedOf } from './defined-of.js';
import { OptionError } from './errors.js';
import { ASSIGNMENTS, type AssignmentName } from './grouping/group-neurons.js';
import type { FluctuationMetric } from './importance/fluctuation.js';
import { METRICS, type MetricName } from './importance/metrics.js';
import type { JobControl } from './progress.js';
import type { HeadUnit } from './removal/plan-removal.js';
import type { Temperature } from './weighting/weight-contexts.js';
import { WEIGHTING_VARIANTS, type WeightingName } from './weighting/weighting-variants.js';

export type { AllocationName, HeadUnit, MethodChoice, MetricName };

/** Which neurons and heads may go: FFN neurons, attention heads, or both. */
export type ModuleSelection = 'ffn' | 'attention' | 'all';

/** A row of `ALLOCATIONS` by name, one of your own, or its `allocate` alone, which gets the block change. */
export type AllocationChoice = AllocationName | Allocation | Allocation['allocate'];

/** What contexts are seen in: the FFN's input after the norm, or the residual stream before it. */
export type FeaturesName = 'post-norm' | 'residual';

/** How FFN neurons are grouped by function. @see FANG (arXiv 2512.23014), section 3.2 */
export interface GroupingOptions {
  /** Contexts K that the tokens fall into, at least 1; there are as many function groups. Default 7. */
  readonly contextCount?: number | undefined;
  /** Context sizes stay within this fraction of their mean; Infinity = plain k-means. Default 0.4. */
  readonly clusterBalance?: number | undefined;
  /** Default `post-norm`. */
  readonly features?: FeaturesName | undefined;
  /** How neurons join function groups; `random` is for ablations. Default `greedy`. */
  readonly assignment?: AssignmentName | undefined;
  /** Sets aside neurons that serve many contexts and never prunes them. Default true. */
  readonly sharedGroup?: boolean | undefined;
  /** Tokens that the contexts are fitted on, at most. Default 8192. */
  readonly fitCount?: number | undefined;
}

/** How tokens count when a function group is judged. @see FANG (arXiv 2512.23014), Eq. 6 */
export interface WeightingOptions {
  /** Default `softmax`. */
  readonly variant?: WeightingName | undefined;
  /** Default `{ relative: 0.5 }`: half the mean distance between two contexts. */
  readonly temperature?: Temperature | undefined;
}

/** Sparsity of one block: of both its modules, or of each kind. */
export type BlockSparsity = number | Partial<Readonly<Record<ModuleKind, number>>>;

/** Where calibration tokens come from; exactly one source, or a file that holds one (`.txt`, or `.jsonl` of texts or ids). */
export type CalibrationSource = TokenSource | { readonly file: string };

/** Which tokens pruning watches the model on. */
export interface CalibrationOptions {
  /** Default: the public text that ships with the package. */
  readonly source?: CalibrationSource | undefined;
  /** Windows to cut, at least 1. Default 64; fewer are used when the text runs out. */
  readonly windowCount?: number | undefined;
  /** Tokens per window, at least 2. Default 512, or the model's context length if that is less. */
  readonly windowLength?: number | undefined;
  /** `first`: from the start of the text. `sample`: windows drawn by the seed. Default `first`. */
  readonly selection?: 'first' | 'sample' | undefined;
  /** Has the model write part of the windows itself; `true` = half of them. Default false. */
  readonly generate?: GenerateOptions | boolean | undefined;
}

/** Everything a pruning run can be told, independent of where model and result live. */
export interface PruneOptions extends JobControl {
  /** Fraction of the selected prunable parameters to remove, in [0, 1). */
  readonly sparsity: number;
  /** Default `auto`. */
  readonly method?: MethodChoice | undefined;
  /** What is named here and cannot be pruned is refused. Default: all that can be pruned; the rest stays, with a remark. */
  readonly modules?: ModuleSelection | undefined;
  /**
   * How the sparsity is spread over the blocks: a name, or a function of what was measured of each module. Default: the
   * method's own (`uniform`; `adaptive` for `f-fang` and `o-fang`, `global` for `auto`).
   * @example
   * const allocation = ({ sparsity, modules }) => modules.map(({ block }) => (block === 0 ? 0 : sparsity));
   * await prune({ model, out, sparsity: 0.3, modules: 'ffn', allocation });
   */
  readonly allocation?: AllocationChoice | undefined;
  /**
   * What scores measure errors in. `loss` weighs directions by the curvature of the loss on the calibration tokens,
   * `divergence` by that of the divergence from what the dense model predicts, both from one pass backwards; repairs do not
   * depend on it. Default: the method's own (`output`; `divergence` for `auto`).
   */
  readonly metric?: MetricName | undefined;
  /** Fraction of the mean of the Hessian's diagonal added to it, at least 0. Default: the method's own. */
  readonly dampening?: number | undefined;
  /** What `flap` and `f-fang` score channels by, a row of `FLUCTUATION_METRICS`; not for other methods. Default `WIFV`. */
  readonly fluctuation?: FluctuationMetric | undefined;
  /** Groups FFN neurons by function before judging them. Default: the method's own (`f-fang` and `o-fang` do). */
  readonly grouping?: GroupingOptions | boolean | undefined;
  /** Only with `grouping`. */
  readonly weighting?: WeightingOptions | undefined;
  /** Default `group`. */
  readonly headUnit?: HeadUnit | undefined;
  /** FFN widths are kept at multiples of this, the nearest to what was asked; at least 1. Default 1. */
  readonly widthMultiple?: number | undefined;
  /**
   * Fraction of its neurons that every FFN keeps in any case, in [0, 1]. At 0 an FFN may go whole under `allocation: 'global'`:
   * it is no longer in the graph. Above 0, and by default, one neuron stays. Attention always keeps a KV group.
   */
  readonly minimumWidth?: number | undefined;
  /**
   * Rounds in which the budget is reached, at least 1; each looks anew at the part-pruned model, so that n shots take n
   * times as long. Default 1.
   */
  readonly shots?: number | undefined;
  /**
   * Gauss-Newton steps that repair the maps into every FFN that lost neurons, after its output map was repaired; at least 0.
   * Default: the method's own (0; 3 for `auto`).
   */
  readonly inputSteps?: number | undefined;
  /** Blocks that stay whole; the others make up for them. Default none. */
  readonly skipBlocks?: readonly number[] | undefined;
  /**
   * Sparsity of single blocks, in [0, 1); the others share the rest of the budget. An FFN's own may be 1 where
   * `allocation` is `global` and `minimumWidth` 0: it goes whole.
   */
  readonly blockSparsity?: Readonly<Record<number, BlockSparsity>> | undefined;
  /** KV head counts may differ between blocks (ONNX Runtime and transformers.js >= 4.2 take that). Default false. */
  readonly perBlockKvHeads?: boolean | undefined;
  /** Seeds everything random. Default 0. */
  readonly seed?: number | undefined;
  /** Windows that run through a block together, at least 1. Default: as many as make about 1024 tokens. */
  readonly batchSize?: number | undefined;
}

/** Everything that contexts can be seen in, by name. */
export const FEATURES = ['post-norm', 'residual'] as const satisfies readonly FeaturesName[];

/** What is used where nothing is said. */
export const PRUNE_DEFAULTS = {
  method: 'auto',
  allocation: 'uniform',
  metric: 'output',
  headUnit: 'group',
  widthMultiple: 1,
  shots: 1,
  inputSteps: 0,
  perBlockKvHeads: false,
  seed: 0,
  calibration: { windowCount: 64, windowLength: 512, generate: false },
} as const;

/** Grouping with nothing left open. */
export type ResolvedGrouping = { readonly [K in keyof GroupingOptions]-?: Exclude<GroupingOptions[K], undefined> };

export const GROUPING_DEFAULTS: ResolvedGrouping = {
  contextCount: 7,
  clusterBalance: 0.4,
  features: 'post-norm',
  assignment: 'greedy',
  sharedGroup: true,
  fitCount: 8192,
};

export const WEIGHTING_DEFAULTS = { variant: 'softmax', temperature: { relative: 0.5 } } as const;

/** Options that were checked, with defaults filled in. */
export interface ResolvedOptions extends JobControl {
  readonly sparsity: number;
  readonly methodName: string;
  readonly adapter: CompensationAdapter;
  /** Orders the dense model's units for allocations that compare modules: the adapter, with scores taken anew on the way. */
  readonly orderAdapter: CompensationAdapter;
  readonly metric: MetricName;
  /** Undefined: the method's own, or none. */
  readonly fluctuation: FluctuationMetric | undefined;
  /** What calibration is like where the user says nothing. */
  readonly calibrationDefaults: Pick<CalibrationOptions, 'generate'>;
  readonly modules: ReadonlySet<ModuleKind>;
  /** Whether the user named them: what cannot be pruned is then refused, else it stays. */
  readonly modulesNamed: boolean;
  readonly allocation: Allocation;
  readonly allocationName: string;
  readonly grouping: ResolvedGrouping | undefined;
  readonly weighting: { readonly variant: WeightingName; readonly temperature: Temperature };
  readonly headUnit: HeadUnit;
  readonly widthMultiple: number;
  /** Undefined: one neuron stays. */
  readonly minimumWidth: number | undefined;
  /** Widths that `minimumWidth` is a fraction of, by module index, where they are not the model's own: in a later shot. */
  readonly denseWidths?: ReadonlyMap<number, number> | undefined;
  readonly shots: number;
  readonly inputSteps: number;
  readonly skipBlocks: ReadonlySet<number>;
  readonly blockSparsity: ReadonlyMap<number, BlockSparsity>;
  readonly perBlockKvHeads: boolean;
  readonly seed: number;
  readonly batchSize: number | undefined;
}

/**
 * Checks all options at once and fills in the defaults.
 * @throws OptionError naming the option, what it was and what it may be.
 */
export function resolveOptions(options: PruneOptions): ResolvedOptions {
  if (typeof options !== 'object' || options === null) throw new OptionError('there are no options; give a sparsity');
  const { sparsity, method = PRUNE_DEFAULTS.method, modules } = options;
  checkFraction('sparsity', sparsity);
  const blockSparsity = new Map(
    Object.entries(options.blockSparsity ?? {}).map(([block, value]) => [Number(block), value]),
  );
  const skipBlocks = new Set(listOf('skipBlocks', options.skipBlocks ?? []));
  for (const block of [...skipBlocks, ...blockSparsity.keys()]) checkWhole('a block index', block, 0);
  if (options.batchSize !== undefined) checkWhole('batchSize', options.batchSize, 1);
  const { dampening, fluctuation } = options;
  const { name: methodName, adapter, orderAdapter, run } = resolveMethod(method, { dampening, fluctuation });
  const chosen = resolveAllocation(options.allocation ?? run.allocation ?? PRUNE_DEFAULTS.allocation);
  const minimumWidth =
    options.minimumWidth === undefined ? undefined : checkWithin('minimumWidth', options.minimumWidth);
  const grouping = resolveGrouping(options.grouping ?? run.grouping ?? false);
  const mayGoWhole = mayTakeWholeFfns({ allocation: chosen.allocation, minimumWidth });
  for (const [block, value] of blockSparsity) checkBlockSparsity(block, value, mayGoWhole);
  return {
    sparsity,
    methodName,
    adapter,
    orderAdapter,
    metric: oneOf('metric', options.metric ?? run.metric ?? PRUNE_DEFAULTS.metric, namesOf(METRICS)),
    fluctuation,
    calibrationDefaults: { generate: run.generate ?? PRUNE_DEFAULTS.calibration.generate },
    ...chosen,
    grouping,
    weighting: resolveWeighting(options.weighting, grouping !== undefined),
    modules: new Set(
      oneOf('modules', modules ?? 'all', ['ffn', 'attention', 'all']) === 'all'
        ? ['ffn', 'attention']
        : [modules as ModuleKind],
    ),
    modulesNamed: modules !== undefined,
    headUnit: oneOf('headUnit', options.headUnit ?? PRUNE_DEFAULTS.headUnit, ['group', 'query']),
    widthMultiple: checkWhole('widthMultiple', options.widthMultiple ?? PRUNE_DEFAULTS.widthMultiple, 1),
    minimumWidth,
    shots: checkWhole('shots', options.shots ?? PRUNE_DEFAULTS.shots, 1),
    inputSteps: checkWhole('inputSteps', options.inputSteps ?? run.inputSteps ?? PRUNE_DEFAULTS.inputSteps, 0),
    skipBlocks,
    blockSparsity,
    perBlockKvHeads: options.perBlockKvHeads ?? PRUNE_DEFAULTS.perBlockKvHeads,
    seed: checkWhole('seed', options.seed ?? PRUNE_DEFAULTS.seed, 0),
    batchSize: options.batchSize,
    onProgress: options.onProgress,
    signal: options.signal,
  };
}

/** Calibration options that were checked, as far as the model need not be known. */
export interface ResolvedCalibration {
  readonly source: CalibrationSource | undefined;
  readonly windowCount: number;
  /** Undefined: the default, or the model's context length if that is less. */
  readonly windowLength: number | undefined;
  readonly selection: 'first' | 'sample' | undefined;
  /** Undefined: the model writes none of the windows. */
  readonly generate: ResolvedGenerate | undefined;
  /** The windows that the model writes are the method's wish and not the user's: a model that cannot write does without. */
  readonly generateIfPossible: boolean;
}

/**
 * Checks calibration options and fills in the defaults.
 * @throws OptionError naming the option, what it was and what it may be.
 */
export function resolveCalibration(
  given: CalibrationOptions = {},
  defaults: Pick<CalibrationOptions, 'generate'> = PRUNE_DEFAULTS.calibration,
): ResolvedCalibration {
  const { source, windowLength, selection } = given;
  const { windowCount = PRUNE_DEFAULTS.calibration.windowCount } = given;
  checkWhole('calibration.windowCount', windowCount, 1);
  if (windowLength !== undefined) checkWhole('calibration.windowLength', windowLength, 2);
  const generate = resolveGenerate(given.generate ?? defaults.generate ?? false);
  return {
    source,
    windowCount,
    windowLength,
    selection,
    generate,
    generateIfPossible: generate !== undefined && given.generate === undefined,
  };
}

/** Whether a run looks at calibration tokens at all. */
export function readsTokens(options: ResolvedOptions): boolean {
  const { adapter, allocation, grouping, metric } = options;
  const adapters = [adapter, allocation.orderBy?.(options)];
  const isMeasured = METRICS[metric].hasCurvature || grouping !== undefined || allocation.measures !== undefined;
  return isMeasured || adapters.some((found) => found !== undefined && found.needs !== 'none');
}

/** Whether an FFN may go whole. */
export const mayTakeWholeFfns = ({
  allocation,
  minimumWidth,
}: Pick<ResolvedOptions, 'allocation' | 'minimumWidth'>): boolean =>
  allocation.takesWholeFfns === true && minimumWidth === 0;

function resolveAllocation(choice: AllocationChoice): Pick<ResolvedOptions, 'allocation' | 'allocationName'> {
  if (typeof choice === 'string') {
    const allocationName = oneOf('allocation', choice, namesOf(ALLOCATIONS));
    return { allocation: ALLOCATIONS[allocationName], allocationName };
  }
  const allocation = typeof choice === 'function' ? { measures: BARE_MEASURES, allocate: choice } : choice;
  if (typeof allocation?.allocate !== 'function')
    throw new OptionError(
      `allocation must be one of ${namesOf(ALLOCATIONS).join(', ')}, a function of what was measured or { allocate }`,
    );
  return { allocation, allocationName: 'custom' };
}

/** What an allocation gets that asks for nothing: it takes no pass backwards. */
const BARE_MEASURES = ['blockChange'] as const;

function resolveGrouping(given: GroupingOptions | boolean): ResolvedGrouping | undefined {
  if (given === false) return undefined;
  const chosen = given === true ? {} : given;
  if (typeof chosen !== 'object' || chosen === null)
    throw new OptionError(`grouping is ${String(given)}; expected true, false or an object`);
  const stray = Object.keys(chosen).find((key) => !Object.hasOwn(GROUPING_DEFAULTS, key));
  if (stray !== undefined)
    throw new OptionError(`grouping.${stray} is unknown; expected ${Object.keys(GROUPING_DEFAULTS).join(', ')}`);
  const grouping: ResolvedGrouping = { ...GROUPING_DEFAULTS, ...definedOf<GroupingOptions>(chosen) };
  checkWhole('grouping.contextCount', grouping.contextCount, 1);
  checkWhole('grouping.fitCount', grouping.fitCount, 1);
  if (!(grouping.clusterBalance >= 0))
    throw new OptionError(`grouping.clusterBalance is ${grouping.clusterBalance}; expected 0 or more`);
  oneOf('grouping.features', grouping.features, FEATURES);
  oneOf('grouping.assignment', grouping.assignment, Object.keys(ASSIGNMENTS) as AssignmentName[]);
  return grouping;
}

function resolveWeighting(given: WeightingOptions | undefined, isGrouped: boolean) {
  if (given !== undefined && !isGrouped)
    throw new OptionError(
      'weighting is given, but no neurons are grouped; add grouping, or use method o-fang or f-fang',
    );
  const { variant = WEIGHTING_DEFAULTS.variant, temperature = WEIGHTING_DEFAULTS.temperature } = given ?? {};
  oneOf('weighting.variant', variant, Object.keys(WEIGHTING_VARIANTS) as WeightingName[]);
  const value = 'relative' in temperature ? temperature.relative : temperature.absolute;
  if (!(Number.isFinite(value) && value > 0)) {
    throw new OptionError(
      `weighting.temperature is ${JSON.stringify(temperature)}; expected { relative } or { absolute } above 0`,
    );
  }
  return { variant, temperature };
}

function checkBlockSparsity(block: number, value: BlockSparsity, mayGoWhole: boolean): void {
  const name = `blockSparsity[${block}]`;
  if (typeof value !== 'object' || value === null) {
    checkFraction(name, value);
    return;
  }
  for (const [kind, part] of Object.entries(value)) {
    oneOf(`a module of ${name}`, kind, ['ffn', 'attention']);
    const goesWhole = mayGoWhole && kind === 'ffn' && part === 1;
    if (part !== undefined && !goesWhole) checkFraction(`${name}.${kind}`, part);
  }
}

function listOf<T>(name: string, value: readonly T[]): readonly T[] {
  if (!Array.isArray(value)) throw new OptionError(`${name} is ${String(value)}; expected a list`);
  return value;
}

function checkFraction(name: string, value: unknown): void {
  if (typeof value !== 'number' || !(value >= 0 && value < 1)) {
    throw new OptionError(
      `${name} is ${String(value)}; expected a number from 0 to below 1, such as 0.3 to remove 30 %`,
    );
  }
}

function checkWithin(name: string, value: number): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= 1))
    throw new OptionError(`${name} is ${String(value)}; expected a number from 0 to 1`);
  return value;
}

function checkWhole(name: string, value: number, least: number): number {
  if (!Number.isInteger(value) || value < least) {
    throw new OptionError(`${name} is ${String(value)}; expected a whole number of at least ${least}`);
  }
  return value;
}

const namesOf = <T extends object>(table: T) => Object.keys(table) as (keyof T & string)[];

function oneOf<T extends string>(name: string, value: T, allowed: readonly T[]): T {
  if (!allowed.includes(value))
    throw new OptionError(`${name} is "${String(value)}"; expected one of ${allowed.join(', ')}`);
  return value;
}
