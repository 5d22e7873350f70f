import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as core from '../src/index.js';
import * as node from '../src/node.js';
import { CALLS } from '../src/pipeline/call-table.js';
import * as web from '../src/web.js';

const textsIn = (folder: string, ending: string) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .map((name) => readFileSync(join(folder, name), 'utf8'));
const blocks = [...textsIn('docs', '.md'), ...textsIn('docs/contributing', '.md')].flatMap((page) =>
  [...page.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code]) => code),
);
const shown = [...textsIn('examples', '.ts'), ...blocks].join('\n');

it('shows each function and table of `fang-prune/core` in an example or a block of the docs', () => {
  const names = Object.keys(core).filter((name) => !name.endsWith('Error'));
  expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(shown))).toEqual([]);
});

/** Exports of all entries other than calls. */
const OTHERS = [
  ...['ALLOCATIONS', 'METHODS', 'STAGES', 'addMeasurements', 'callOn', 'compareEvaluations', 'withJob'],
  ...Object.keys(core).filter((name) => name.endsWith('Error')),
];

it.each([
  ['node', node, ['benchmark', 'createNodeEngine', 'nodePlatform', 'openModelFolder']],
  ['web', web, ['createPruneWorker', 'createWebPlatform']],
] as const)('exports calls, errors and what calls need, and no internals: %s', (platform, entry, own) => {
  const calls = Object.entries(CALLS).filter(([, row]) => (row.platforms as readonly string[]).includes(platform));
  expect(Object.keys(entry).sort()).toEqual([...calls.map(([name]) => name), ...OTHERS, ...own].sort());
});
