import { isMethodChoice, METHODS, type MethodChoice, type MethodName } from '../compensation/methods.js';
import { EXPERT_SCORES } from '../importance/expert-scores.js';
import { FLUCTUATION_METRICS } from '../importance/fluctuation.js';
import { METRICS } from '../importance/metrics.js';
import { whereSelected } from './budget.js';
import { atLeast, boolean, choice, integer, type Kind, namesOf } from './kinds.js';
import { type AnyRows, type OptionsOf, row } from './option.js';

const METHOD_NAMES = Object.keys(METHODS) as MethodName[];

const methodKind: Kind<MethodChoice> = {
  accepts: isMethodChoice,
  expected: `one of ${METHOD_NAMES.join(', ')}, an adapter { needs, prepare } or a function that scores`,
  typed: `one of ${METHOD_NAMES.join(', ')}`,
  choices: METHOD_NAMES,
};

/** Condition: a method that uses the option. */
const withMethods = (option: string) => ({
  to: `methods ${METHOD_NAMES.filter((name) => METHODS[name].takes.includes(option)).join(', ')}`,
  within: ({ takes }: { readonly takes: ReadonlySet<string> }) => takes.has(option),
});

export const SCORE = {
  /** Default `auto`. */
  method: row('-m, --method <name>', 'scores and repair', {
    kind: methodKind,
    default: 'auto',
    common: true,
  }),
  /**
   * Metric of errors in scores. `loss` weighs directions by the curvature of the loss on the calibration tokens,
   * `divergence` by that of the divergence from the dense model's predictions, both from one backward pass; repairs do
   * not depend on it. Default: the method's own (`output`; `divergence` for `auto`).
   */
  metric: row('--metric <name>', 'metric of the errors that scores estimate', {
    kind: choice(namesOf(METRICS)),
    otherwise: "the method's own",
  }),
  /**
   * Fraction of the mean of the Hessian's diagonal added to it, at least 0; for methods with a Hessian. Default: the
   * method's own.
   */
  dampening: row(undefined, "number added to the Hessian's diagonal, as a fraction of its mean", {
    kind: atLeast(0),
    otherwise: "the method's own",
    applies: withMethods('dampening'),
  }),
  /** Channel score of `flap` and `f-fang`, a row of `FLUCTUATION_METRICS`; not for other methods. Default `WIFV`. */
  fluctuation: row(undefined, "score of channels by FLAP's formulas", {
    kind: choice(namesOf(FLUCTUATION_METRICS)),
    otherwise: 'WIFV',
    applies: withMethods('fluctuation'),
  }),
  /**
   * Gauss-Newton steps that repair the input projections of every FFN that lost neurons, after the repair of its output
   * layer; at least 0. Default: the method's own (0; 3 for `auto`).
   */
  inputSteps: row(undefined, 'descent steps that repair the input projections of FFNs that lost neurons', {
    kind: integer(0),
    otherwise: "the method's own",
    default: 0,
    applies: {
      to: 'FFNs and methods that read tokens',
      within: ({ modules, measuresBlocks }) => modules.has('ffn') && measuresBlocks,
    },
  }),
  /**
   * Score that selects the experts to remove, a row of `EXPERT_SCORES`; the cost of each removal is measured for every
   * score. Default `removal`.
   */
  expertScore: row(undefined, 'score of experts; the lowest are removed first', {
    kind: choice(namesOf(EXPERT_SCORES)),
    default: 'removal',
    applies: whereSelected('experts'),
  }),
  /**
   * Runs every expert on all calibration tokens to order its neurons and to repair it, not only on the tokens routed to
   * it. The time grows by experts / top-k. Default false.
   */
  allExperts: row('--all-experts', 'run every expert on all calibration tokens', {
    kind: boolean,
    default: false,
    applies: whereSelected('experts'),
  }),
} as const satisfies AnyRows;

/** Options of scores and repair. */
export interface ScoreOptions extends OptionsOf<typeof SCORE> {}
