import type { PushedFolder, PushRequest } from '../node.js';
import { PUSH } from '../options/commands.js';
import { formatBytes } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatTable } from './format-table.js';
import type { Colors } from './terminal.js';

/** `push <folder> <repo>` */
export const pushCommand: CommandRow<PushRequest, PushedFolder> = {
  name: 'push',
  call: 'push',
  description: 'upload a result to the Hugging Face Hub',
  arguments: {
    '<folder>': 'a folder that prune, quantize, heal or apply wrote',
    '<repo>': 'repository on the Hub, such as me/model-30',
  },
  families: PUSH,
  examples: [
    'push ./smaller me/smaller --create',
    'push ./smaller me/smaller --dry-run',
    'push ./smaller me/smaller --private --with-report',
  ],
  run: (api, request) => api.push(request),
  format: formatPushed,
};

/** The uploaded files, for people; a dry run shows the card too. */
function formatPushed({ folder, repo, commit, url, files, leftOut, card }: PushedFolder, colors: Colors): string {
  const rows = [...files.map(({ path, byteLength }) => [path, formatBytes(byteLength)]), ['README.md', 'the card']];
  return [
    `${colors.bold(commit === undefined ? 'Would push' : 'Pushed')} ${folder} -> ${repo}\n`,
    formatTable([...words('file'), ...numbers('size')], rows),
    ...(leftOut.length === 0
      ? []
      : [`Not uploaded: ${leftOut.join(', ')}\nTo upload one of them too, name it: --include FILE\n`]),
    ...(commit === undefined ? [`${card}`] : [`Commit ${commit}\n${url}\n`]),
  ].join('\n');
}
