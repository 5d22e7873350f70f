import { type Command, Help, Option } from 'commander';
import { OptionError } from '../errors.js';
import { listRows, type NamedRow } from '../options/list-rows.js';
import { type Families, refusal, rowsOf } from '../options/option.js';
import { READERS } from './readers.js';

/** Beyond this many flags `--help` keeps to those for every day, and `--help-all` shows the rest. */
const MOST_FLAGS = 24;

/** Declares the flags of a command's options, one heading a family. */
export function declareFlags(command: Command, families: Families): void {
  const rare: Option[] = [];
  for (const [heading, rows] of Object.entries(families))
    for (const named of listRows(rows))
      for (const option of optionsOf(named)) {
        if (command.options.some(({ long }) => long === option.long)) continue;
        command.addOption(option.helpGroup(`${heading}:`));
        if (named.row.everyday !== true) rare.push(option);
      }
  if (command.options.length > MOST_FLAGS) hideRare(command, rare);
}

/** Hidden while help is drawn and at no other time: commander suggests no flag that is hidden. */
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

function defaultOf({ flag = '', otherwise, default: value }: NamedRow['row']): string {
  const words = otherwise ?? (typeof value === 'boolean' || value === undefined ? undefined : String(value));
  return words === undefined || words.startsWith('none') || !/[<[]/.test(flag) ? '' : ` (default ${words})`;
}

/** What flags said, as a request of the API. @throws OptionError where one leaves no room for another. */
export function readFlags(command: Command, families: Families): Record<string, unknown> {
  const request: Record<string, unknown> = {};
  for (const { row, path } of listRows(rowsOf(families))) {
    if (row.flag === undefined) continue;
    const name = new Option(row.flag).attributeName();
    if (command.getOptionValueSource(name) !== 'cli') continue;
    put(request, path, command.getOptionValue(name));
  }
  return request;
}

/** Parts of an object come together, and asking for one asks for the object. */
function put(request: Record<string, unknown>, path: string, value: unknown): void {
  const parts = path.split('.');
  const last = parts.pop()!;
  let place = request;
  for (const [depth, part] of parts.entries()) {
    if (place[part] === false)
      throw refusal(path, `has no effect where ${parts.slice(0, depth + 1).join('.')} is false; leave it out`);
    if (typeof place[part] !== 'object') place[part] = {};
    place = place[part] as Record<string, unknown>;
  }
  place[last] = value;
}

const nameOf = (flag: string): string => /--(?:no-)?([\w-]+)/.exec(flag)![1]!;

/** The same error in a command line's words: with flags in place of the API's names. */
export function inFlags(error: unknown, families: Families): unknown {
  if (!(error instanceof OptionError)) return error;
  let { message } = error;
  // Longer names first: `calibration.windowCount` holds `windowCount`.
  const rows = [...listRows(rowsOf(families))].sort((a, b) => b.path.length - a.path.length);
  for (const { row, path } of rows) {
    const name = path.replaceAll('.', '\\.');
    const flag = row.flag ?? Object.values(row.parts ?? {}).find((part) => part.flag !== undefined)?.flag;
    // Names that are words of the language too are names only where they are at fault.
    const isName = /[A-Z.]/.test(path) || new RegExp(`^${name}(?!\\w)`).test(error.option ?? '');
    if (flag === undefined || !isName) continue;
    message = message.replace(new RegExp(`(?<![\\w./-])${name}(?![\\w/-]|\\.\\w)`, 'g'), `--${nameOf(flag)}`);
  }
  return message === error.message ? error : new OptionError(message, { cause: error });
}
