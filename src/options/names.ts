import {
  ALLOCATION_RULES,
  type AllocationRule,
  type AllocationRuleName,
  type BlockMeasure,
} from '../allocation/allocation-rules.js';
import type { MethodName } from '../compensation/adapters.js';

/**
 * How the sparsity is spread over the blocks: a rule of `ALLOCATION_RULES`, FLAP's threshold on standardised scores
 * (`standardised`), or one threshold on what each removal costs (`global`).
 */
export type AllocationName = AllocationRuleName | 'standardised' | 'global';

/**
 * How errors at a module's output are measured: as plain squared distance, by what the loss makes of them, or by how far they
 * lead away from what the dense model predicts.
 */
export type MetricName = 'output' | 'loss' | 'divergence';

/** What contexts are seen in: the FFN's input after the norm, or the residual stream before it. */
export type FeaturesName = 'post-norm' | 'residual';

/** Every way to spread the sparsity, by name. */
export const ALLOCATIONS = [...Object.keys(ALLOCATION_RULES), 'standardised', 'global'] as readonly AllocationName[];

/** Options that an allocation takes and others do not. */
export const ALLOCATION_TAKES: Readonly<Partial<Record<AllocationName, readonly string[]>>> = {
  global: ['minimumWidth'],
};

/** Every metric, by name. */
export const METRICS = ['output', 'loss', 'divergence'] as const satisfies readonly MetricName[];

/** Everything that contexts can be seen in, by name. */
export const FEATURES = ['post-norm', 'residual'] as const satisfies readonly FeaturesName[];

/** Named combinations of an adapter with grouping, allocation, metric, dampening and steps on inputs. */
export const COMBINATIONS = {
  'f-fang': { adapter: 'flap', allocation: 'adaptive', grouping: true, metric: 'output' },
  'o-fang': { adapter: 'obc', allocation: 'adaptive', grouping: true, metric: 'output' },
  auto: {
    adapter: 'obc',
    allocation: 'global',
    grouping: false,
    metric: 'divergence',
    dampening: 0.1,
    inputSteps: 3,
    generate: true,
  },
} as const satisfies Record<string, Combination>;

/** A method's name with what it sets where the user says nothing. */
export interface Combination {
  readonly adapter: MethodName;
  readonly allocation: AllocationName;
  readonly grouping: boolean;
  readonly metric: MetricName;
  readonly dampening?: number;
  readonly inputSteps?: number;
  /** The model writes half the calibration windows. */
  readonly generate?: boolean;
}

export function findCombination(method: unknown): Combination | undefined {
  return typeof method === 'string' && Object.hasOwn(COMBINATIONS, method)
    ? COMBINATIONS[method as keyof typeof COMBINATIONS]
    : undefined;
}

/** What an allocation goes by; `undefined` for one that looks at no block. */
export function ruleMeasure(allocation: AllocationName): BlockMeasure | undefined {
  const rules: Readonly<Record<string, AllocationRule>> = ALLOCATION_RULES;
  return rules[allocation]?.measure;
}
