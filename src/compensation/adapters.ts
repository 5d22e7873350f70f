import { OptionError } from '../errors.js';
import { FLUCTUATION_METRICS, type FluctuationMetric, scoreByFluctuation } from '../importance/fluctuation.js';
import type { ImportanceScore } from '../importance/importance-score.js';
import { scoreAtRandom } from '../importance/random-score.js';
import type { UnitAggregate } from '../importance/units.js';
import { scoreByMagnitude, scoreByWeightTimesInput } from '../importance/weighted-norm.js';
import type { CompensationAdapter, StatisticsNeed } from './adapter.js';
import { createImportanceAdapter } from './importance-adapter.js';
import { createObcAdapter, type ObcOptions } from './obc.js';
import type { RepairName } from './repairs.js';

/** A named pruning method: how units are scored and what makes up for the removed ones. Rows of `METHODS`. */
export interface Method<Options extends object> {
  readonly description: string;
  /** Where it was published. */
  readonly paper: string;
  readonly needs: StatisticsNeed;
  readonly defaults: Options;
  /** Options of a run that only some methods take, each with what it is called here. */
  readonly takes: Readonly<Record<string, string>>;
  /** @throws OptionError when an option is out of range. */
  create(options: Options): CompensationAdapter;
}

/** How a method that only scores makes up for what it removes. */
export interface ScoringOptions {
  /** Default: `bias` for `flap`, `none` for the others. */
  readonly repair: RepairName;
  /** Dampening of a least-squares repair, at least 0. Default 0.01. */
  readonly dampening: number;
}

export interface FlapOptions extends ScoringOptions {
  /** Default `WIFV`. */
  readonly metric: FluctuationMetric;
  /** How a head's channels make one score; neurons are not concerned. Default `sum-of-squares`, as in the published code. */
  readonly aggregate: UnitAggregate;
}

const flap: Method<FlapOptions> = {
  description: 'fluctuation of each channel weighted by its column; removed means become a bias',
  paper: 'FLAP: An et al., AAAI 2024, arXiv 2312.11983',
  needs: 'moments',
  defaults: { metric: 'WIFV', aggregate: 'sum-of-squares', repair: 'bias', dampening: 0.01 },
  takes: { fluctuation: 'metric' },
  create({ metric, aggregate, ...repairing }) {
    if (!Object.hasOwn(FLUCTUATION_METRICS, metric)) throw unknown('metric', metric, Object.keys(FLUCTUATION_METRICS));
    const aggregates = ['sum', 'sum-of-squares'];
    if (!aggregates.includes(aggregate)) throw unknown('aggregate', aggregate, aggregates);
    return createImportanceAdapter((problem) => scoreByFluctuation(problem, metric, aggregate), repairing);
  },
};

const obc: Method<ObcOptions> = {
  description: 'error left after the best repair of the others, from the inverse Hessian; least-squares repair',
  paper: 'OBS: Hassibi & Stork 1993; structured: ZipLM, Kurtic et al., NeurIPS 2023, arXiv 2302.04089',
  needs: 'gram',
  defaults: { dampening: 0.01, step: Number.POSITIVE_INFINITY },
  takes: { dampening: 'dampening' },
  create: createObcAdapter,
};

const wanda: Method<ScoringOptions> = {
  description: 'absolute weight times the norm of its input, summed over a unit ("Wanda-sp"); no repair',
  paper: 'Wanda: Sun et al., ICLR 2024, arXiv 2306.11695',
  needs: 'moments',
  defaults: { repair: 'none', dampening: 0.01 },
  takes: {},
  create: (repairing) => createImportanceAdapter(scoreByWeightTimesInput, repairing),
};

const magnitude: Method<ScoringOptions> = {
  description: "norm of a unit's weight; looks at no token; no repair",
  paper: 'Han et al., NeurIPS 2015, arXiv 1506.02626',
  needs: 'none',
  defaults: { repair: 'none', dampening: 0.01 },
  takes: {},
  create: (repairing) => createImportanceAdapter(scoreByMagnitude, { ...repairing, needs: 'none' }),
};

const random: Method<ScoringOptions> = {
  description: 'by lot: the baseline that every method must beat; no repair',
  paper: 'none',
  needs: 'none',
  defaults: { repair: 'none', dampening: 0.01 },
  takes: {},
  create: (repairing) => createImportanceAdapter(scoreAtRandom, { ...repairing, needs: 'none' }),
};

/** Every method by name; a new one is a new row. */
export const METHODS = { flap, obc, wanda, magnitude, random } as const satisfies Record<string, Method<object>>;

export type MethodName = keyof typeof METHODS;

/** Options a method takes, by its name. */
export type MethodOptions<Name extends MethodName> = Parameters<(typeof METHODS)[Name]['create']>[0];

/**
 * Makes the adapter of a named method, defaults filled in.
 *
 * @throws OptionError for an unknown name, an unknown option or a value out of range.
 * @example
 * const adapter = createAdapter('flap', { metric: 'IFV' });
 */
export function createAdapter<Name extends MethodName>(
  name: Name,
  options: Partial<MethodOptions<Name>> = {},
): CompensationAdapter {
  if (!Object.hasOwn(METHODS, name)) throw unknown('method', name, Object.keys(METHODS));
  const method: Method<Partial<MethodOptions<Name>>> = METHODS[name];
  const stray = Object.keys(options).find((key) => !Object.hasOwn(method.defaults, key));
  if (stray !== undefined) throw unknown(`option of method ${name}`, stray, Object.keys(method.defaults));
  return method.create({ ...method.defaults, ...options });
}

/** Options that a run has for its method, whichever that is; a method refuses what it does not know. */
export interface MethodSettings {
  readonly dampening?: number;
  readonly metric?: FluctuationMetric;
}

/**
 * Takes a method however it is given: by name, as an adapter, or as a bare formula for importance (which may read the
 * moments and gets no repair; `createImportanceAdapter` gives it more).
 *
 * @param options For named methods and formulas; a finished adapter has its own.
 *
 * @throws OptionError for anything else.
 */
export function resolveAdapter(
  method: string | CompensationAdapter | ImportanceScore,
  options: MethodSettings = {},
): CompensationAdapter {
  if (typeof method === 'function') return createImportanceAdapter(method, options);
  if (typeof method === 'string') return createAdapter(method as MethodName, options);
  if (typeof method?.prepare === 'function' && ['none', 'moments', 'gram'].includes(method.needs)) return method;
  throw new OptionError(
    `method must be one of ${Object.keys(METHODS).join(', ')}, an adapter { needs, prepare } or a function that scores`,
  );
}

function unknown(what: string, found: unknown, expected: readonly string[]): OptionError {
  return new OptionError(`unknown ${what} ${JSON.stringify(found)}; expected one of ${expected.join(', ')}`);
}
