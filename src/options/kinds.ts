import { isRecord } from '../parse-json.js';

/** Parser of a command-line argument; each has a row in the command line's readers. */
export type Reader =
  | 'blockSparsity'
  | 'count'
  | 'file'
  | 'fraction'
  | 'fractions'
  | 'names'
  | 'number'
  | 'share'
  | 'sizes'
  | 'texts';

/** Describes the values of an option or a JSON field. */
export interface Kind<T> {
  readonly accepts: (value: unknown) => value is T;
  /** Text after "expected" in messages. */
  readonly expected: string;
  /** `expected` on the command line, if different. */
  readonly typed?: string;
  /** Suggested value for an invalid one, if not from `choices`. */
  readonly meant?: (value: unknown) => string | undefined;
  /** Allowed names. */
  readonly choices?: readonly string[];
  /** Default: as text. */
  readonly reads?: Reader;
  /** Kind of each item of a list. */
  readonly item?: Kind<unknown>;
  /** Kinds of an object's fields; further fields are allowed. */
  readonly fields?: Fields;
  /** The field may be missing. */
  readonly isOptional?: boolean;
  /** JSON Schema keywords of the kind, without those of `item` and `fields`. Only kinds of JSON files need them. */
  readonly schema?: Readonly<Record<string, unknown>>;
}

export type Fields = Readonly<Record<string, Kind<unknown>>>;

/** The first invalid part of a value. */
export interface Fault {
  /** Such as `modules[3].keep`. */
  readonly place: string;
  readonly value: unknown;
  readonly kind: Kind<unknown>;
}

/** Finds the first fault of a value; items and fields are checked first. */
export function findFault(value: unknown, kind: Kind<unknown>, place = ''): Fault | undefined {
  if (value === undefined && kind.isOptional === true) return undefined;
  const { item, fields } = kind;
  if (item !== undefined && Array.isArray(value))
    for (const [at, each] of value.entries()) {
      const fault = findFault(each, item, `${place}[${at}]`);
      if (fault !== undefined) return fault;
    }
  if (fields !== undefined && isRecord(value))
    for (const [name, field] of Object.entries(fields)) {
      const found = Object.hasOwn(value, name) ? value[name] : undefined;
      const fault = findFault(found, field, place === '' ? name : `${place}.${name}`);
      if (fault !== undefined) return fault;
    }
  return kind.accepts(value) ? undefined : { place, value, kind };
}

const isNumber = (value: unknown): value is number => typeof value === 'number';

export const integer = (least: number): Kind<number> => ({
  accepts: (value): value is number => Number.isSafeInteger(value) && (value as number) >= least,
  expected: `an integer of at least ${least}`,
  reads: 'count',
  schema: { type: 'integer', minimum: least },
});

/** A number or a percentage: 0.3, '30%'. */
export type Fraction = number | `${number}%`;

/** A fraction as a number. */
export function fractionOf(value: Fraction): number {
  return typeof value === 'string' ? Number(value.slice(0, -1)) / 100 : value;
}

/** In [0, 1), or percent. */
export const fraction: Kind<Fraction> = {
  accepts: (value): value is Fraction => {
    const number = isNumber(value) || isPercent(value) ? fractionOf(value) : Number.NaN;
    return number >= 0 && number < 1;
  },
  expected: "a number from 0 to below 1, such as 0.3 or '30%'",
  typed: 'a fraction from 0 to below 1, such as 0.3 or 30%',
  meant: (value) => {
    const percent = isNumber(value) || typeof value === 'string' ? Number(value) : Number.NaN;
    return percent > 1 && percent < 100 ? `${percent}%` : undefined;
  },
  reads: 'fraction',
};

const isPercent = (value: unknown): value is `${number}%` => typeof value === 'string' && /^\d+(\.\d+)?%$/.test(value);

/** In [0, 1]. */
export const portion: Kind<number> = {
  accepts: (value): value is number => isNumber(value) && value >= 0 && value <= 1,
  expected: 'a number from 0 to 1',
  reads: 'fraction',
};

export const finite: Kind<number> = {
  accepts: (value): value is number => Number.isFinite(value),
  expected: 'a number',
  schema: { type: 'number' },
};

/** Finite. */
export const atLeast = (least: number, note = ''): Kind<number> => ({
  accepts: (value): value is number => Number.isFinite(value) && (value as number) >= least,
  expected: `a number of at least ${least}${note}`,
  reads: 'number',
});

export const above = (limit: number): Kind<number> => ({
  accepts: (value): value is number => Number.isFinite(value) && (value as number) > limit,
  expected: `a number above ${limit}`,
  reads: 'number',
});

export const choice = <const T extends string>(choices: readonly T[]): Kind<T> => ({
  accepts: (value): value is T => (choices as readonly unknown[]).includes(value),
  expected: `one of ${choices.join(', ')}`,
  choices,
  schema: { enum: choices },
});

/** The names of a table's rows. */
export const namesOf = <T extends object>(table: T) => Object.keys(table) as (keyof T & string)[];

export const boolean: Kind<boolean> = {
  accepts: (value) => typeof value === 'boolean',
  expected: 'true or false',
  schema: { type: 'boolean' },
};

/** A name or a path; not blank, as shells write an unset variable. */
export const text = (
  expected: string,
  isValid: (value: string) => boolean = (value) => value.trim() !== '',
): Kind<string> => ({
  accepts: (value): value is string => typeof value === 'string' && isValid(value),
  expected,
});

export const anyText: Kind<string> = { ...text('a text', () => true), schema: { type: 'string' } };

const anyList: Kind<readonly unknown[]> = {
  accepts: Array.isArray,
  expected: 'a list',
  schema: { type: 'array' },
};

/** A list of a JSON file. */
export const arrayOf = (item: Kind<unknown>): Kind<readonly unknown[]> => ({ ...anyList, item });

export const listOf = <T>(item: Kind<T>, expected: string, reads: Reader): Kind<readonly T[]> => ({
  accepts: (value): value is readonly T[] => Array.isArray(value) && value.every(item.accepts),
  expected,
  typed: item.typed ?? item.expected,
  reads,
  item,
});

/** An object whose parts have rows, or are checked later. */
export const record = <T extends object>(expected: string): Kind<T> => ({
  accepts: (value): value is T => isRecord(value),
  expected,
});

export const anyObject: Kind<object> = { ...record('an object'), schema: { type: 'object' } };

/** An object of a JSON file. */
export const withFields = (fields: Fields): Kind<object> => ({ ...anyObject, fields });

export const optional = <T>(kind: Kind<T>): Kind<T> => ({ ...kind, isOptional: true });

/** One kind or the other. */
export const either = <A, B>(a: Kind<A>, b: Kind<B>): Kind<A | B> => ({
  accepts: (value): value is A | B => a.accepts(value) || b.accepts(value),
  expected: `${a.expected}, or ${b.expected}`,
  choices: [...(a.choices ?? []), ...(b.choices ?? [])],
});

/** A caller's function. */
export const callback = (expected: string): Kind<never> => ({
  accepts: (value): value is never => typeof value === 'function',
  expected,
});

/** A caller's object with methods of these names. */
export const withMethods = (expected: string, names: readonly string[]): Kind<never> => ({
  accepts: (value): value is never =>
    typeof value === 'object' &&
    value !== null &&
    names.every((name) => typeof Reflect.get(value, name) === 'function'),
  expected,
});
