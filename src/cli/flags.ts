import { type Command, Help, Option } from 'commander';
import { MODULE_KINDS } from '../architecture/layout.js';
import { FangPruneError, OptionError } from '../errors.js';
import type { Reader } from '../options/kinds.js';
import { type Families, listRows, type NamedRow, refusal, rowsOf } from '../options/option.js';

/** With more flags, `--help` shows only common ones; `--help-all` shows all. */
const MAX_FLAGS = 24;

/** Declares the flags of a command's options, with a heading per family. */
export function declareFlags(command: Command, families: Families): void {
  const rare: Option[] = [];
  for (const [heading, rows] of Object.entries(families))
    for (const named of listRows(rows))
      for (const option of optionsOf(named)) {
        if (command.options.some(({ long }) => long === option.long)) continue;
        command.addOption(option.helpGroup(`${heading}:`));
        if (named.row.common !== true) rare.push(option);
      }
  if (command.options.length > MAX_FLAGS) hideRare(command, rare);
}

/** Hides rare flags only while help is printed: commander does not suggest hidden flags. */
function hideRare(command: Command, rare: readonly Option[]): void {
  let showsAll = false;
  command.addOption(new Option('--help-all', 'show all options').helpGroup('Output:'));
  command.on('option:help-all', () => {
    showsAll = true;
    command.help();
  });
  command.configureHelp({
    formatHelp(shown, helper) {
      for (const option of rare) option.hideHelp(!showsAll);
      return Help.prototype.formatHelp.call(helper, shown, helper);
    },
  });
}

function optionsOf({ row }: NamedRow): Option[] {
  const { flag, no, help, kind } = row;
  if (flag === undefined) return [];
  const { reads, choices = [] } = kind;
  const names = choices.length === 0 ? '' : `: ${choices.join(', ')}`;
  const option = new Option(flag, `${help}${names}${defaultOf(row)}`);
  if (reads !== undefined) option.argParser(READERS[reads] as (text: string, previous: unknown) => unknown);
  return no === undefined ? [option] : [option, new Option(`--no-${nameOf(flag)}`, no)];
}

function defaultOf({ flag = '', required = false, otherwise, default: value }: NamedRow['row']): string {
  if (required) return '';
  const words = otherwise ?? (typeof value === 'boolean' || value === undefined ? undefined : String(value));
  return words === undefined || words.startsWith('none') || !/[<[]/.test(flag) ? '' : ` (default ${words})`;
}

/** Converts flags to a request of the API. @throws OptionError if two contradict each other. */
export function readFlags(command: Command, families: Families): Record<string, unknown> {
  const request: Record<string, unknown> = {};
  for (const { row, path } of listRows(rowsOf(families))) {
    if (row.flag === undefined) continue;
    const name = new Option(row.flag).attributeName();
    if (command.getOptionValueSource(name) !== 'cli') continue;
    setPath(request, path, command.getOptionValue(name));
  }
  return request;
}

/** Sets a path of nested objects; a part implies its object. */
function setPath(request: Record<string, unknown>, path: string, value: unknown): void {
  const parts = path.split('.');
  const last = parts.pop()!;
  let place = request;
  for (const [depth, part] of parts.entries()) {
    if (place[part] === false)
      throw refusal(path, `has no effect with ${parts.slice(0, depth + 1).join('.')} left out; leave one of them out`);
    if (typeof place[part] !== 'object') place[part] = {};
    place = place[part] as Record<string, unknown>;
  }
  place[last] = value;
}

const nameOf = (flag: string): string => /--(?:no-)?([\w-]+)/.exec(flag)![1]!;

/** Replacements of API names by flags. */
interface FlagNames {
  /** Options by their path: the flag, or the argument in angle brackets. */
  readonly flags: ReadonlyMap<string, string>;
  /** Descriptions of expected values for the API and for the command line. */
  readonly expected: readonly (readonly [api: string, typed: string])[];
}

function flagNamesOf(families: Families, names: readonly string[]): FlagNames {
  const flags = new Map(names.map((name) => [name, `<${name}>`]));
  const expected: (readonly [string, string])[] = [];
  for (const { path, row } of listRows(rowsOf(families))) {
    const { kind } = row;
    for (const { expected: api, typed } of [kind, kind.item ?? kind])
      if (typed !== undefined) expected.push([api, typed]);
    const flag = row.flag ?? flagOfPart(row.parts) ?? flagOfObject(path, flags);
    if (flag !== undefined && !flags.has(path)) flags.set(path, flag.startsWith('<') ? flag : longFlag(flag));
  }
  return { flags, expected };
}

/** An object without a flag is named by the flag of its first part. */
const flagOfPart = (parts: NamedRow['row']['parts']): string | undefined =>
  Object.values(parts ?? {}).find(({ flag }) => flag !== undefined)?.flag;

/** A part without a flag is named by the flag of its object. */
const flagOfObject = (path: string, flags: ReadonlyMap<string, string>): string | undefined =>
  path.includes('.') ? flags.get(path.slice(0, path.lastIndexOf('.'))) : undefined;

const longFlag = (flag: string): string => /--[\w-]+/.exec(flag)![0];

/**
 * Replaces API names by flags in an error.
 * @param names of the command's arguments
 */
export function inFlags(error: unknown, families: Families, names: readonly string[] = []): unknown {
  if (!(error instanceof FangPruneError)) return error;
  const words = flagNamesOf(families, names);
  const message =
    error instanceof OptionError ? refusalInFlags(error.message, words) : replaceNames(error.message, words);
  if (message === error.message) return error;
  const ErrorClass = error.constructor as new (message: string, options: ErrorOptions) => FangPruneError;
  return new ErrorClass(message, { cause: error });
}

/** Replaces API names by flags in the notes of a command's output. */
export function notesInFlags(text: string, families: Families): string {
  const words = flagNamesOf(families, []);
  return text.replaceAll(/^.*\bnote:.*$/gm, (line) => replaceNames(line, words));
}

function refusalInFlags(refusal: string, words: FlagNames): string {
  let message = refusal;
  for (const [api, typed] of words.expected) message = message.replace(`expected ${api}`, `expected ${typed}`);
  return replaceNames(message, words, '^|\\bapplies only to |\\bwith |\\bwithout ')
    .replace(/^(--[\w-]+) contains /, '$1 is ')
    .replace(/^(--[\w-]+)\[(\d+)\]/, '$1 of block $2')
    .replace(/ with (--[\w-]+) left out;/, (_, flag: string) => ` with ${negated(flag)};`);
}

/** @param more further words before which a name that is also an English word is an option */
function replaceNames(text: string, { flags }: FlagNames, more = 'again with '): string {
  let message = text;
  // Longer names first: `calibration.windowCount` contains `windowCount`.
  for (const [path, flag] of [...flags].sort(([a], [b]) => b.length - a.length)) {
    const name = `(?<![\\w./<-])${path.replaceAll('.', '\\.')}(?![\\w/>-]|\\.\\w)`;
    // Names that are also English words are replaced only where the context shows an option.
    const isName = /[A-Z.]/.test(path)
      ? name
      : `(?:(?<=${more}|\\bset |\\bname no |\\bby )${name}|${name}(?= "|: '|: false| is \\S+, expected))`;
    message = message.replace(new RegExp(isName, 'g'), flag);
  }
  return message
    .replaceAll(/(--[\w-]+): (?:'([^']*)'|(\d+))/g, '$1 $2$3')
    .replaceAll(/(--[\w-]+): false/g, (_, flag: string) => negated(flag))
    .replaceAll(/\bset (--no-[\w-]+) to false/g, 'give $1');
}

const negated = (flag: string): string => `--no-${flag.replace(/^--(no-)?/, '')}`;

/** Parsers of arguments by the reader of an option's row; `previous` has the earlier values of the same flag. */
const READERS: Readonly<Record<Reader, (text: string, previous: never) => unknown>> = {
  blockSparsity: parseBlockSparsity,
  count: parseNumber,
  file: (file) => ({ file }),
  fraction: parseFraction,
  fractions: parseFractions,
  names: parseNames,
  number: parseNumber,
  share: (text) => ({ share: parseFraction(text) }),
  sizes: parseSizes,
  texts: collect,
};

/** `0.3` or `30%`. Anything else, and percentages outside 0 to 100, remains text, which the option's check rejects. */
function parseFraction(text: string): number | string {
  const percent = text.endsWith('%');
  const value = parseNumber(percent ? text.slice(0, -1) : text);
  if (typeof value === 'string' || !percent) return typeof value === 'string' ? text : value;
  return value >= 0 && value <= 100 ? value / 100 : text;
}

/** `0.1,20%` and repeated options: all fractions in order. */
function parseFractions(text: string, previous: readonly (number | string)[] = []): readonly (number | string)[] {
  return [...previous, ...text.split(',').map((part) => parseFraction(part.trim()))];
}

/** `cuda,cpu` and repeated options: all names in order. */
function parseNames(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, ...text.split(',').map((part) => part.trim())];
}

/**
 * `60MB,80MB`, `60000000,80000000` and repeated options. `1,5MB` is a decimal comma, not a list: it remains text, which the option's check
 * rejects.
 */
function parseSizes(text: string, previous: readonly string[] = []): readonly string[] {
  const parts = text.split(',').map((part) => part.trim());
  const hasUnit = (part: string) => /[a-z]$/i.test(part);
  return [...previous, ...(parts.every((part) => hasUnit(part) === hasUnit(text)) ? parts : [text])];
}

/** Repeated options: all values in order, without splitting at commas. */
function collect(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, text];
}

/** Any finite number. Anything else remains text, which the option's check rejects. */
function parseNumber(text: string): number | string {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  return Number.isFinite(value) ? value : text;
}

/** Captures a block, a kind of module if one is named, and a fraction. */
const BLOCK_PART = new RegExp(`^\\s*(\\d+)(?:\\.(${MODULE_KINDS.join('|')}))?=(.+)$`);

/** `3=0.5,4.ffn=20%` and repeated options: sparsities by block, of a block or of one of its modules. */
function parseBlockSparsity(text: string, previous: unknown = {}): unknown {
  const found: Record<string, unknown> = { ...(previous as object) };
  for (const part of text.split(',')) {
    const [, index, kind, fraction] = BLOCK_PART.exec(part) ?? [];
    // The option's check rejects a text.
    if (index === undefined || fraction === undefined) return part;
    const block = String(Number(index));
    const sparsity = parseFraction(fraction.trim());
    const known = found[block];
    const isRepeated = typeof known === 'object' && kind !== undefined ? kind in known! : known !== undefined;
    if (isRepeated)
      throw new OptionError(`--block-sparsity names block ${block} more than once (${part.trim()}); give one value`, {
        option: 'blockSparsity',
      });
    found[block] = kind === undefined ? sparsity : { ...(known as object | undefined), [kind]: sparsity };
  }
  return found;
}
