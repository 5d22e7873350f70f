/** Loads the built package the ways users do: `import`, `require`, the core alone, the command line. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

const EXPORTED_NAMES = `
  const names = (module) => Object.keys(module).filter((name) => name !== 'default' && name !== '__esModule').sort();
`;

for (const entry of ['fang-prune', 'fang-prune/core']) {
  const imported = runNode('module', `${EXPORTED_NAMES} console.log(names(await import('${entry}')).join());`);
  const required = runNode('commonjs', `${EXPORTED_NAMES} console.log(names(require('${entry}')).join());`);
  assert.equal(required, imported, `'${entry}' exports other names to require than to import`);
  assert.notEqual(imported, '', `'${entry}' exports nothing`);
}

for (const [type, load] of [
  ['module', (entry: string) => `await import('${entry}')`],
  ['commonjs', (entry: string) => `require('${entry}')`],
] as const) {
  const isOneClass = `(${load('fang-prune')}).OptionError === (${load('fang-prune/core')}).OptionError`;
  assert.equal(runNode(type, `console.log(${isOneClass})`), 'true', `${type}: the entries have an OptionError each`);
}

assert.equal(execFileSync('node', ['dist/cli.js', '--version'], { encoding: 'utf8' }).trim(), version);

console.log('The package loads by import, by require and from the command line.');

function runNode(type: 'module' | 'commonjs', code: string): string {
  return execFileSync('node', [`--input-type=${type}`, '--eval', code], { encoding: 'utf8' }).trim();
}
