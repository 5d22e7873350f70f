import { OptionError } from '../errors.js';
import { cutValue } from '../printable.js';
import { findFault, type Kind } from './kinds.js';
import { REMOVED_OPTIONS } from './removed.js';

/** Description of an option, from which API types, command line, help, pages and reports are derived. */
export interface OptionRow<T = unknown> {
  readonly kind: Kind<T>;
  /** One line, for help and pages. */
  readonly help: string;
  readonly default?: T;
  /** The default in words, if it is not a fixed value. */
  readonly otherwise?: string;
  readonly required?: boolean;
  /** Flag of the command line, such as `-s, --sparsity <fraction>`; absent for API-only options. */
  readonly flag?: string | undefined;
  /** Help of the negated flag, `--no-...`. */
  readonly no?: string;
  /** Shown by `--help`; other options only by `--help-all`. */
  readonly common?: boolean;
  readonly applies?: Applies;
  /** The rows of an option that is an object. */
  readonly parts?: AnyRows;
}

/** Creates a row from flag (undefined for API-only options), help and the rest. */
export const row = <const Rest extends Omit<OptionRow, 'flag' | 'help'>>(
  flag: string | undefined,
  help: string,
  rest: Rest,
): { readonly flag: string | undefined; readonly help: string } & NoInfer<Rest> => ({ flag, help, ...rest });

/** The rows without flags, as API-only options. */
export const withoutFlags = <R extends AnyRows>(rows: R): R =>
  Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, { ...row, flag: undefined }])) as R;

/** Condition under which an option has an effect. */
export interface Applies {
  /** Text after "it applies only to" in messages. */
  readonly to: string;
  within(run: RunFacts, value?: unknown): boolean;
}

/** Facts that decide whether an option has an effect. */
export interface RunFacts {
  readonly modules: ReadonlySet<string>;
  /** Method-specific options that the run's method uses. */
  readonly takes: ReadonlySet<string>;
  /** Whether the allocation may remove entire FFNs. */
  readonly removesEntireFfns: boolean;
  readonly isGrouped: boolean;
  readonly readsTokens: boolean;
  /** Whether blocks are measured while pruning. */
  readonly measuresBlocks: boolean;
  /** Dtypes of the results; absent: the model's dtype. */
  readonly dtypes?: readonly string[];
}

export type AnyRows = Readonly<Record<string, OptionRow>>;

/** A row for every option of an interface. */
export type Rows<Options> = { readonly [Name in keyof Options]-?: OptionRow<Exclude<Options[Name], undefined>> };

/** Rows of a command, by heading of its help. */
export type Families = Readonly<Record<string, AnyRows>>;

type ValueOf<Row> = Row extends { readonly kind: Kind<infer Value> } ? Value : never;
type IsRequired<Row> = Row extends { readonly required: true } ? true : false;

/**
 * Options type derived from rows, each with the comment of its row; options that rows cannot type (functions) are
 * excluded. Interfaces extend it, so that tools list the options.
 */
export type OptionsOf<R> = {
  readonly [Name in keyof R as [ValueOf<R[Name]>] extends [never]
    ? never
    : IsRequired<R[Name]> extends true
      ? Name
      : never]: ValueOf<R[Name]>;
} & {
  readonly [Name in keyof R as [ValueOf<R[Name]>] extends [never]
    ? never
    : IsRequired<R[Name]> extends true
      ? never
      : Name]?: ValueOf<R[Name]> | undefined;
};

/** `OptionsOf` all rows of a command. */
export type OptionsOfFamilies<F extends Families> = OptionsOf<Intersection<F[keyof F]>>;

type Intersection<Union> = (Union extends unknown ? (each: Union) => void : never) extends (all: infer All) => void
  ? All
  : never;

/** All rows of a command without headings. */
export function rowsOf<F extends Families>(families: F): AnyRows & Intersection<F[keyof F]> {
  return Object.assign({}, ...Object.values(families));
}

type Defaults<R> = {
  readonly [Name in keyof R as R[Name] extends { default: unknown } ? Name : never]: DefaultOf<R[Name]>;
};
type DefaultOf<Row> = Row extends { readonly default: infer T } ? T : never;

/** Default values of the rows that have one. */
export function defaultsOf<R extends AnyRows>(rows: R): Defaults<R> {
  const defaults = Object.entries(rows).map(([name, row]) => [name, row.default] as const);
  return Object.fromEntries(defaults.filter(([, value]) => value !== undefined)) as Defaults<R>;
}

/** Checked options without undefined entries, also in parts. */
export type Checked<Options> = { [Name in keyof Options]: CheckedValue<Exclude<Options[Name], undefined>> };
type CheckedValue<Value> = Value extends object ? (object extends Value ? Checked<Value> : Value) : Value;

/** Type of resolved options: those with a default are present. */
export type Resolved<Options, R> = {
  readonly [Name in keyof Options]-?: Name extends keyof Defaults<R>
    ? Exclude<Options[Name], undefined>
    : Options[Name];
};

/**
 * Checks options against their rows, parts of objects too.
 * @returns A copy without undefined entries.
 * @throws OptionError naming the option, its value and the allowed values.
 */
export function checkOptions<Options extends object>(given: Options, rows: Rows<Options>): Checked<Options> {
  return checkRows(given, rows as AnyRows) as Checked<Options>;
}

/** @param at Path of the containing object; absent for top-level options. */
function checkRows(given: unknown, rows: AnyRows, at?: string): object {
  if (typeof given !== 'object' || given === null)
    throw new OptionError(`the options are ${showValue(given)}; expected an object`);
  const pathOf = (name: string) => (at === undefined ? name : `${at}.${name}`);
  const names = Object.keys(rows);
  const checked = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const unknown = Object.keys(checked).find((name) => !names.includes(name));
  if (unknown !== undefined) throw unknownOption(pathOf(unknown), suggest(unknown, names));
  for (const [name, row] of Object.entries(rows)) {
    const value = checked[name];
    if (value === undefined && row.required !== true) continue;
    const fault = findFault(value, row.kind);
    if (fault !== undefined) {
      // On the command line a list is always valid, so that the fault is an item.
      const [field = ''] = fault.place.split('[');
      const verb = fault.place === field ? 'is' : 'contains';
      const found = value === undefined ? 'missing' : showValue(fault.value);
      throw refusal(
        pathOf(field === '' ? name : `${name}.${field}`),
        `${verb} ${found}; expected ${fault.kind.expected}${suggestValue(fault.value, fault.kind)}`,
      );
    }
    if (row.parts !== undefined && typeof value === 'object') checked[name] = checkRows(value, row.parts, pathOf(name));
  }
  return checked;
}

function unknownOption(path: string, suggestion: string): OptionError {
  if (Object.hasOwn(REMOVED_OPTIONS, path)) return refusal(path, `was removed: ${REMOVED_OPTIONS[path]}`);
  return new OptionError(`unknown option "${cutValue(path)}"; ${suggestion}`, { option: path });
}

/** Suggestion of a value, as the end of a message. */
export function suggestValue(value: unknown, { choices = [], meant }: Kind<unknown>): string {
  const near = meant?.(value) ?? (typeof value === 'string' ? nearestName(value, choices) : undefined);
  return near === undefined ? '' : ` (did you mean "${near}"?)`;
}

function suggest(given: string, names: readonly string[]): string {
  const near = nearestName(given, names);
  return near === undefined ? `expected one of ${names.join(', ')}` : `did you mean "${near}"?`;
}

/** Longer texts are not misspelt names, and their distance is slow to compute. */
const MAX_NAME = 64;

/** The closest name to a misspelt one; undefined if none is close. */
function nearestName(given: string, names: readonly string[]): string | undefined {
  if (given.length > MAX_NAME) return undefined;
  const limit = Math.max(1, Math.floor(given.length / 3));
  const ranked = names
    .map((name) => ({ name, distance: editDistance(given.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  if (ranked[0] !== undefined && ranked[0].distance <= limit) return ranked[0].name;
  // `fang` of `f-fang` and `o-fang`.
  return given.length < 3 ? undefined : names.find((name) => name.toLowerCase().includes(given.toLowerCase()));
}

/** Edit distance (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [at, letter] of [...a].entries()) {
    const next = [at + 1];
    for (let end = 1; end <= b.length; end++)
      next.push(Math.min(next[end - 1]! + 1, row[end]! + 1, row[end - 1]! + (b[end - 1] === letter ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

/** The options of a request that have a row. */
export function pickOptions<R extends object, Names extends object>(
  request: R,
  rows: Names,
): Pick<R, keyof R & keyof Names> {
  const entries = Object.entries(request).filter(([name]) => Object.hasOwn(rows, name));
  return Object.fromEntries(entries) as Pick<R, keyof R & keyof Names>;
}

/** Refuses checked options that have no effect in a run. @throws OptionError with the condition of their effect */
export function checkEffect(checked: object, rows: AnyRows, run: RunFacts): void {
  for (const [name, value] of Object.entries(checked)) {
    const row = rows[name];
    if (row?.applies === undefined || row.applies.within(run, value)) continue;
    // `false` requests nothing.
    const parts =
      typeof value === 'object' && row.parts !== undefined
        ? Object.keys(value).filter((part) => value[part as never] !== false)
        : undefined;
    if (value === false || value === row.default || parts?.length === 0) continue;
    const [part] = parts ?? [];
    const path = part === undefined ? name : `${name}.${part}`;
    throw refusal(path, `has no effect in this run: it applies only to ${row.applies.to}; leave it out`);
  }
}

/** An error about an option; `reason` follows its name. */
export function refusal(option: string, reason: string): OptionError {
  return new OptionError(`${option} ${reason}`, { option });
}

/** Formats a value for messages. */
export function showValue(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'string') return JSON.stringify(cutValue(value));
  if (typeof value !== 'object') return cutValue(String(value));
  return cutValue(
    JSON.stringify(value, (_, part) =>
      typeof part === 'number' ? (Number.isFinite(part) ? part : String(part)) : part,
    ),
  );
}

/** An option and its path in a request, such as `calibration.windowCount`. */
export interface NamedRow {
  readonly path: string;
  readonly row: OptionRow;
}

/** All options, each before its parts. */
export function listRows(rows: AnyRows, at?: string): readonly NamedRow[] {
  return Object.entries(rows).flatMap(([name, row]) => {
    const path = at === undefined ? name : `${at}.${name}`;
    return [{ path, row }, ...(row.parts === undefined ? [] : listRows(row.parts, path))];
  });
}
