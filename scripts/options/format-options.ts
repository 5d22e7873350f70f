import { pruneCommand } from '../../src/cli/prune.js';
import { COMMANDS as ROWS } from '../../src/cli/run-cli.js';
import { BUDGET } from '../../src/options/budget.js';
import { type Families, listRows, type NamedRow, type OptionRow } from '../../src/options/option.js';

/** Commands with their call, if there is one. The row of `sparsity` is that of `prune`, since a ladder is another call. */
const COMMANDS = ROWS.map(({ name, arguments: given, call, families }): [string, string | undefined, Families] => [
  [name, ...Object.keys(given)].join(' '),
  call,
  name === pruneCommand.name ? { ...families, Budget: BUDGET } : families,
]);

/** The page of all options; shared options are listed with the first call. */
export function formatOptionsPage(): string {
  const seen = new Set<OptionRow>();
  const parts = COMMANDS.map(([command, call, families]) => {
    const tables = Object.entries(families).map(([heading, rows]) => {
      const listed = listRows(rows);
      const known = listed.filter(({ row }) => seen.has(row)).map(({ path }) => `\`${path}\``);
      const lines = listed.filter(({ row }) => !seen.has(row)).map(formatRow);
      for (const { row } of listed) seen.add(row);
      const table = lines.length === 0 ? '' : `${HEAD}${lines.join('\n')}\n`;
      const shared = known.length === 0 ? '' : `As above: ${known.join(', ')}.\n`;
      return `### ${heading}\n\n${[table, shared].filter(Boolean).join('\n')}`;
    });
    return `## ${call === undefined ? '' : `${call}, `}\`fang-prune ${escapeCell(command)}\`\n\n${tables.join('\n')}`;
  });
  return parts.join('\n');
}

const HEAD = '| option | flag | what it is | may be | default |\n| --- | --- | --- | --- | --- |\n';

/** The README's table: commands, with the call that each makes. */
export function formatCommands(): string {
  const lines = ROWS.map(({ name, arguments: given, call, description }) => {
    const cells = [
      `\`${[name, ...Object.keys(given)].join(' ')}\``,
      call === undefined ? '' : `\`${call}\``,
      description,
    ];
    return `| ${cells.map(escapeCell).join(' | ')} |`;
  });
  return `| command | call | what it does |\n| --- | --- | --- |\n${lines.join('\n')}\n`;
}

const longName = (flag: string): string => /--[\w-]+/.exec(flag)![0];

function formatRow({ path, row }: NamedRow): string {
  const { flag, no, help, kind, applies } = row;
  const flags = [
    ...(flag === undefined ? [] : [flag]),
    ...(no === undefined ? [] : [`--no-${longName(flag!).slice(2)}`]),
  ];
  const effect = applies === undefined ? '' : `; only with ${applies.to}`;
  const fallback = row.otherwise ?? (row.default === undefined ? 'none' : JSON.stringify(row.default));
  const value = row.required ? 'required' : fallback;
  // Help is that of the flag, which sets the option to false.
  const meaning = flag?.startsWith('--no-') ? `\`false\`: ${help}` : help;
  const cells = [
    `\`${path}\``,
    flags.map((name) => `\`${name}\``).join(' '),
    `${meaning}${effect}`,
    kind.expected,
    value,
  ];
  return `| ${cells.map(escapeCell).join(' | ')} |`;
}

const escapeCell = (text: string): string => text.replaceAll('|', '\\|');

/** Replaces the text between two markers. */
export function putBetween(page: string, name: string, content: string): string {
  const [start, end] = [`<!-- ${name} -->\n`, `<!-- end of ${name} -->`];
  const [from, to] = [page.indexOf(start), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page has no ${start.trim()} ... ${end}`);
  return page.slice(0, from + start.length) + content + page.slice(to);
}
