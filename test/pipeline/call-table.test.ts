import { readFileSync } from 'node:fs';
import { COMMANDS } from '../../src/cli/run-cli.js';
import * as node from '../../src/node.js';
import { CALLS, type CallName } from '../../src/pipeline/call-table.js';
import * as web from '../../src/web.js';

const names = Object.keys(CALLS) as CallName[];

it.each([
  ['node', node],
  ['web', web],
] as const)('exports each call on the platforms of its row: %s', (platform, entry) => {
  const expected = names.filter((name) => (CALLS[name].platforms as readonly string[]).includes(platform));
  expect(names.filter((name) => typeof Object(entry)[name] === 'function')).toEqual(expected);
});

it('has all calls of the web in createPruneWorker', () => {
  const { terminate, ...calls } = web.createPruneWorker();
  expect(Object.keys(calls)).toEqual(
    names.filter((name) => (CALLS[name].platforms as readonly string[]).includes('web')),
  );
});

it('gives commands the options of their call', () => {
  for (const { call, families } of COMMANDS)
    if (call !== undefined && call in CALLS)
      for (const heading of Object.keys(CALLS[call as CallName].options)) expect(families).toHaveProperty(heading);
});

it('the README names every call', () => {
  const readme = readFileSync('README.md', 'utf8');
  expect(names.filter((name) => !new RegExp(`\`${name}[(\`]`).test(readme))).toEqual([]);
});
