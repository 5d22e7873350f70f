import { CHOOSE } from '../../src/cli/choose.js';
import { EVAL } from '../../src/cli/eval.js';
import { PRUNE_COMMAND } from '../../src/cli/prune.js';
import { BUDGET } from '../../src/options/budget.js';
import {
  APPLY,
  BENCH,
  BIAS,
  COMPARE,
  DESCRIBE,
  HEAL,
  MERGE,
  OBSERVE,
  PUSH,
  QUANTIZE,
  REPORT,
  SHRINK,
  TRIM_VOCABULARY,
} from '../../src/options/commands.js';
import { listRows, type NamedRow } from '../../src/options/list-rows.js';
import { type Families, type OptionRow, rowsOf } from '../../src/options/option.js';
import { SOURCES } from '../repository.js';

/** The row of `sparsity` is the call's: a ladder is a call of its own. */
const PRUNE_FAMILIES = { ...PRUNE_COMMAND, Budget: BUDGET };

/** Commands in the order of the README, each with the call of the API that it is. */
const COMMANDS: readonly (readonly [command: string, call: string, families: Families])[] = [
  ['prune <model>', 'prune', PRUNE_FAMILIES],
  ['quantize <model>', 'quantize', QUANTIZE],
  ['shrink <model>', 'shrink', SHRINK],
  ['choose <model>', 'choose', CHOOSE],
  ['observe <model>', 'observe', OBSERVE],
  ['merge <shards...>', 'mergeStatistics', MERGE],
  ['apply <recipe> <model>', 'applyRecipe', APPLY],
  ['heal <dense> <pruned>', 'heal', HEAL],
  ['trim-vocabulary <model>', 'trimVocabulary', TRIM_VOCABULARY],
  ['describe <model>', 'describe', DESCRIBE],
  ['report <report>', 'rebuildReport', REPORT],
  ['push <folder> <repo>', 'push', PUSH],
  ['bias <dense> <pruned>', 'measureCalibrationBias', BIAS],
  ['eval <models...>', 'evaluateModels', EVAL],
  ['compare <files...>', 'compareFiles', COMPARE],
  ['bench <models...>', 'benchmark', BENCH],
];

/** The page of all options; what several calls share stands with the first. */
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
    return `## ${call}, \`fang-prune ${escapeCell(command)}\`\n\n${tables.join('\n')}`;
  });
  return parts.join('\n');
}

const HEAD = '| option | flag | what it is | may be | default |\n| --- | --- | --- | --- | --- |\n';

/** The README's table: everyday flags of `prune` and `observe`, all flags of the others. */
export function formatCommands(): string {
  const lines = COMMANDS.map(([command, , families]) => {
    const flagged = listRows(rowsOf(families)).filter(({ row }) => row.flag !== undefined && !SHARED.test(row.flag));
    const everyday = flagged.filter(({ row }) => row.everyday === true);
    const shown = flagged.length > 20 ? everyday : flagged;
    const more = shown.length < flagged.length ? ` [and more](${SOURCES}docs/options.md)` : '';
    return `| \`${command}\` | ${shown.map(({ row }) => `\`${longName(row.flag!)}\``).join(' ')}${more} |`;
  });
  return `| command | options |\n| --- | --- |\n${lines.join('\n')}\n`;
}

/** Flags that the README lists once for all commands. */
const SHARED = /--(embeddings|offline|execution-provider)/;

const longName = (flag: string): string => /--[\w-]+/.exec(flag)![0];

function formatRow({ path, row }: NamedRow): string {
  const { flag, no, help, kind, applies } = row;
  const flags = [
    ...(flag === undefined ? [] : [flag]),
    ...(no === undefined ? [] : [`--no-${longName(flag!).slice(2)}`]),
  ];
  const effect = applies === undefined ? '' : `; only with ${applies.to}`;
  const value =
    row.otherwise ?? (row.default === undefined ? (row.required ? 'required' : 'none') : JSON.stringify(row.default));
  const cells = [`\`${path}\``, flags.map((name) => `\`${name}\``).join(' '), `${help}${effect}`, kind.expected, value];
  return `| ${cells.map(escapeCell).join(' | ')} |`;
}

const escapeCell = (text: string): string => text.replaceAll('|', '\\|');

/** Text with what stands between two markers replaced. */
export function putBetween(page: string, name: string, content: string): string {
  const [start, end] = [`<!-- ${name} -->\n`, `<!-- end of ${name} -->`];
  const [from, to] = [page.indexOf(start), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page has no ${start.trim()} ... ${end}`);
  return page.slice(0, from + start.length) + content + page.slice(to);
}
