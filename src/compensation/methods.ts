import type { AllocationName } from '../allocation/allocations.js';
import { OptionError } from '../errors.js';
import { type FluctuationMetric, flap } from '../importance/fluctuation.js';
import type { ImportanceScore, ScoreRow } from '../importance/importance-score.js';
import { magnitude } from '../importance/magnitude.js';
import type { MetricName } from '../importance/metrics.js';
import { random } from '../importance/random.js';
import { wanda } from '../importance/wanda.js';
import type { CompensationAdapter, StatisticsNeed } from './adapter.js';
import { createImportanceAdapter } from './importance-adapter.js';
import { createObcAdapter, type ObcOptions } from './obc.js';
import type { RepairName } from './repairs.js';

/** A named pruning method: score and repair. Rows of `METHODS`. */
export interface Method<Options extends object> {
  readonly description: string;
  /** Where it was published. */
  readonly paper: string;
  readonly needs: StatisticsNeed;
  readonly defaults: Options;
  /** Options of a run that the method uses. */
  readonly takes: readonly string[];
  /** Options that differ when the dense model's removal order is computed. */
  readonly ordering?: Partial<Options>;
  readonly run?: RunDefaults;
  /** @throws OptionError when an option is out of range. */
  create(options: Options): CompensationAdapter;
}

/** Defaults of a run by a method. */
export interface RunDefaults {
  /** Default `uniform`. */
  readonly allocation?: AllocationName;
  /** Default `output`. */
  readonly metric?: MetricName;
  /** Groups FFN neurons by function. Default false. */
  readonly grouping?: boolean;
  /** Steps that repair the input projections of an FFN. Default 0. */
  readonly inputSteps?: number;
  /** The model generates half the calibration windows. Default false. */
  readonly generate?: boolean;
}

/** Repair options of a method that only scores. */
export interface ScoringOptions {
  /** Default: `bias` for `flap`, `none` for the others. */
  readonly repair: RepairName;
  /** Dampening of a least-squares repair, at least 0. Default 0.01. */
  readonly dampening: number;
}

const obc: Method<ObcOptions> = {
  description: 'error left after the best repair of the others, from the inverse Hessian; least-squares repair',
  paper: 'OBS: Hassibi & Stork 1993; structured: ZipLM, Kurtic et al., NeurIPS 2023, arXiv 2302.04089',
  needs: 'gram',
  defaults: { dampening: 0.01, step: Number.POSITIVE_INFINITY },
  takes: ['dampening'],
  ordering: { step: 32 },
  create: createObcAdapter,
};

const fang = { paper: 'FANG: arXiv 2512.23014', run: { allocation: 'adaptive', grouping: true } } as const;
const flapMethod = scoringMethod(flap);

/** All methods by name; a new one is a new row. */
export const METHODS = {
  flap: flapMethod,
  obc,
  wanda: scoringMethod(wanda),
  magnitude: scoringMethod(magnitude),
  random: scoringMethod(random),
  'f-fang': { ...flapMethod, description: 'flap within function groups of neurons, blocks by their change', ...fang },
  'o-fang': { ...obc, description: 'obc within function groups of neurons, blocks by their change', ...fang },
  auto: {
    ...obc,
    description:
      'obc with costs measured as divergence from the dense model; one threshold over all modules; repair of inputs',
    paper: 'this library: docs/methods.md',
    defaults: { ...obc.defaults, dampening: 0.1 },
    run: { allocation: 'global', metric: 'divergence', inputSteps: 3, generate: true },
  },
} as const satisfies Record<string, Method<object>>;

export type MethodName = keyof typeof METHODS;

/** Options of a method, by its name. */
export type MethodOptions<Name extends MethodName> = Parameters<(typeof METHODS)[Name]['create']>[0];

/** Makes a method from a score: its options are the formula's settings and those of a repair. */
function scoringMethod<Settings extends object>(row: ScoreRow<Settings>): Method<ScoringOptions & Settings> {
  const { description, paper, needs, repair = 'none', settings, choices = {} } = row;
  return {
    description,
    paper,
    needs,
    defaults: { repair, dampening: 0.01, ...settings },
    takes: Object.keys(settings),
    create(options) {
      for (const [name, allowed] of Object.entries(choices) as [keyof Settings & string, readonly unknown[]][]) {
        if (!allowed.includes(options[name]))
          throw new OptionError(`${name} is "${options[name]}"; expected one of ${allowed.join(', ')}`);
      }
      return createImportanceAdapter((problem) => row.score(problem, options), { ...options, needs });
    },
  };
}

/**
 * Makes the adapter of a named method, defaults filled in.
 *
 * @throws OptionError for an unknown name, an unknown option or a value out of range.
 * @example
 * const adapter = createAdapter('flap', { fluctuation: 'IFV' });
 */
export function createAdapter<Name extends MethodName>(
  name: Name,
  options: Partial<MethodOptions<Name>> = {},
): CompensationAdapter {
  const method = findMethod(name);
  const unknown = Object.keys(options).find((key) => !Object.hasOwn(method.defaults, key));
  if (unknown !== undefined) throw unknownName(`option of method ${name}`, unknown, Object.keys(method.defaults));
  return method.create({ ...method.defaults, ...options });
}

/** A pruning method by name (see `METHODS`), an adapter, or an importance function. Names are checked when a run starts. */
export type MethodChoice = MethodName | (string & {}) | CompensationAdapter | ImportanceScore;

/** Method options of a run; `takes` of the method's row lists those with an effect. */
export interface MethodSettings {
  readonly dampening?: number;
  readonly fluctuation?: FluctuationMetric;
}

/** A resolved method. */
export interface ResolvedMethod {
  readonly name: string;
  readonly adapter: CompensationAdapter;
  /** The adapter that scores again after each removal, for removal orders. */
  readonly orderAdapter: CompensationAdapter;
  /** Settings with the method's own defaults. */
  readonly settings: MethodSettings;
  readonly takes: readonly string[];
  readonly run: RunDefaults;
}

/** Whether a value is a method name, a formula or an adapter. */
export function isMethodChoice(value: unknown): value is MethodChoice {
  if (typeof value === 'string') return Object.hasOwn(METHODS, value);
  const { prepare, needs } = Object(value) as Partial<CompensationAdapter>;
  const isAdapter = typeof prepare === 'function' && ['none', 'moments', 'gram'].includes(needs!);
  return isAdapter || typeof value === 'function';
}

/**
 * Resolves a method given by name, as an adapter, or as an importance formula (moments only, without repair;
 * `createImportanceAdapter` supports more).
 *
 * @param given Settings of named methods; an adapter has its own.
 * @throws OptionError for an unknown name or a value out of range.
 */
export function resolveMethod(method: MethodChoice, given: MethodSettings = {}): ResolvedMethod {
  if (typeof method !== 'string') {
    const adapter = typeof method === 'function' ? createImportanceAdapter(method) : method;
    return { name: 'custom', adapter, orderAdapter: adapter, settings: {}, takes: [], run: {} };
  }
  const { defaults, takes, ordering, run = {} } = findMethod(method);
  const known: Readonly<Record<string, unknown>> = { ...defaults, ...given };
  const settings = Object.fromEntries(takes.map((name) => [name, known[name]]));
  const create = (more?: object) => createAdapter(method as MethodName, { ...settings, ...more });
  const adapter = create();
  return { name: method, adapter, orderAdapter: ordering ? create(ordering) : adapter, settings, takes, run };
}

function findMethod(name: string): Method<object> {
  if (!Object.hasOwn(METHODS, name)) throw unknownName('method', name, Object.keys(METHODS));
  return METHODS[name as MethodName] as unknown as Method<object>;
}

function unknownName(what: string, found: unknown, expected: readonly string[]): OptionError {
  return new OptionError(`unknown ${what} ${JSON.stringify(found)}; expected one of ${expected.join(', ')}`);
}
