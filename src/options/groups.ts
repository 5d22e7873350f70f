import { OptionError } from '../errors.js';
import { ASSIGNMENTS } from '../grouping/group-neurons.js';
import type { Temperature } from '../grouping/weight-contexts.js';
import { WEIGHTING_VARIANTS } from '../grouping/weighting-variants.js';
import { whereSelected } from './budget.js';
import { above, boolean, choice, either, integer, type Kind, namesOf, record } from './kinds.js';
import { type AnyRows, type Checked, defaultsOf, type OptionsOf, type Resolved, row } from './option.js';

/** Features that contexts are clustered by: the FFN's input after the norm, or the residual stream before it. */
export type FeaturesName = 'post-norm' | 'residual';

/** Features of contexts by name. */
const FEATURES = ['post-norm', 'residual'] as const satisfies readonly FeaturesName[];

/** Reports write Infinity as a string, since JSON has none. */
const balance: Kind<number> = {
  accepts: (value): value is number => value === 'Infinity' || (typeof value === 'number' && value >= 0),
  expected: 'a number of at least 0, or Infinity',
};

const GROUPING = {
  /** Number K of contexts (token clusters) and of function groups, at least 1. Default 7. */
  contextCount: row(undefined, 'clusters of tokens (contexts), and function groups', {
    kind: integer(1),
    default: 7,
  }),
  /** Largest deviation of context sizes from their mean, as a fraction; Infinity = plain k-means. Default 0.4. */
  clusterBalance: row(
    undefined,
    "how far a context's size may be from the mean, as a fraction; Infinity: plain k-means",
    {
      kind: balance,
      default: 0.4,
    },
  ),
  /** Default `post-norm`. */
  features: row(undefined, 'features that contexts are clustered by', {
    kind: choice(FEATURES),
    default: 'post-norm',
  }),
  /** Assignment of neurons to function groups; `random` is for ablations. Default `greedy`. */
  assignment: row(undefined, 'how neurons are assigned to function groups', {
    kind: choice(namesOf(ASSIGNMENTS)),
    default: 'greedy',
  }),
  /** Puts neurons that serve many contexts into a group that is never pruned. Default true. */
  sharedGroup: row(undefined, 'put the neurons that serve many contexts into a group that is not pruned', {
    kind: boolean,
    default: true,
  }),
  /** Tokens that the contexts are fitted on, at most. Default 8192. */
  fitCount: row(undefined, 'tokens that contexts are fitted on, at most', {
    kind: integer(1),
    default: 8192,
  }),
} as const satisfies AnyRows;

/** Grouping of FFN neurons by function. @see FANG (arXiv 2512.23014), section 3.2 */
export interface GroupingOptions extends OptionsOf<typeof GROUPING> {}

const WEIGHTING = {
  /** Default `softmax`. */
  variant: row(undefined, 'weighting of tokens for a function group', {
    kind: choice(namesOf(WEIGHTING_VARIANTS)),
    default: 'softmax',
  }),
  /** Default `{ relative: 0.5 }`: half the mean distance between two contexts. */
  temperature: row(undefined, 'how fast weights fall with distance', {
    kind: record<Temperature>('{ relative } or { absolute } above 0'),
    default: { relative: 0.5 },
    parts: {
      relative: row(undefined, 'how fast weights fall with distance: this times the mean between two contexts', {
        kind: above(0),
        otherwise: '0.5',
      }),
      absolute: row(undefined, 'distance instead of `relative`, such as 9 in the paper for LLaMA-2-7B', {
        kind: above(0),
      }),
    },
  }),
} as const satisfies AnyRows;

/** Weighting of tokens when a function group is scored. @see FANG (arXiv 2512.23014), Eq. 6 */
export interface WeightingOptions extends OptionsOf<typeof WEIGHTING> {}

export const FUNCTIONS = {
  /** Groups FFN neurons by function before scoring them. Default: the method's own (`f-fang` and `o-fang` do). */
  grouping: row('--grouping', 'group FFN neurons by function with any method; implied by any setting of the groups', {
    kind: either(boolean, record<GroupingOptions>('an object such as { contextCount: 7 }')),
    otherwise: "the method's own",
    no: 'group no neurons',
    applies: whereSelected('ffn'),
    parts: GROUPING,
  }),
  /** Weighting of tokens, with `grouping` only. */
  weighting: row(undefined, 'weighting of tokens when a function group is scored', {
    kind: record<WeightingOptions>('an object such as { variant: "softmax" }'),
    otherwise: 'the defaults of its parts',
    applies: { to: 'grouping, or method o-fang or f-fang', within: ({ isGrouped }) => isGrouped },
    parts: WEIGHTING,
  }),
} as const satisfies AnyRows;

/** Options of function groups. */
export interface FunctionOptions extends OptionsOf<typeof FUNCTIONS> {}

export const GROUPING_DEFAULTS = defaultsOf(GROUPING) satisfies ResolvedGrouping;
const WEIGHTING_DEFAULTS = defaultsOf(WEIGHTING);

/** Grouping options with defaults. */
export type ResolvedGrouping = Resolved<GroupingOptions, typeof GROUPING>;
export type ResolvedWeighting = Resolved<WeightingOptions, typeof WEIGHTING>;

/** Fills in checked options. */
export function resolveGrouping(checked: Checked<GroupingOptions> | boolean): ResolvedGrouping | undefined {
  if (checked === false) return undefined;
  const grouping = { ...GROUPING_DEFAULTS, ...(checked === true ? {} : checked) };
  return { ...grouping, clusterBalance: Number(grouping.clusterBalance) };
}

/** Fills in checked options. @throws OptionError for a temperature that has neither or both forms. */
export function resolveWeighting(checked: Checked<WeightingOptions> = {}): ResolvedWeighting {
  const weighting = { ...WEIGHTING_DEFAULTS, ...checked };
  if (Object.keys(weighting.temperature).length === 1) return weighting;
  const parts = 'weighting.temperature.relative and weighting.temperature.absolute';
  throw new OptionError(`give exactly one of ${parts}`, { option: 'weighting.temperature' });
}
