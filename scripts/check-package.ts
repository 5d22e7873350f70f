/**
 * Loads the built package the ways users do (`import`, `require`, the core alone, the command line), compiles against its
 * typings, and checks its notices and what package.json says of the repository.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { buildPage } from './build-page.js';
import { checkEvaluatedCode } from './check-evaluated-code.js';
import { REPOSITORY_FIELDS } from './repository.js';

const { version, repository, homepage, bugs } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
  string,
  string
>;
assert.deepEqual(
  { repository, homepage, bugs },
  REPOSITORY_FIELDS,
  'package.json names another repository: npm run repository',
);

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

// Neither with Node.js's typings nor with none do ours need a browser's.
for (const more of [[], ['--types', 'node']]) {
  execFileSync('node', ['node_modules/typescript/bin/tsc', '-p', 'scripts/consumer', ...more], { stdio: 'inherit' });
}

assert.equal(execFileSync('node', ['dist/cli.js', '--version'], { encoding: 'utf8' }).trim(), version);

// Without the path mapping of tsconfig.json an example's `fang-prune` is the built package.
const described = execFileSync('node', ['--import', 'tsx', 'examples/02-describe-a-model.ts'], {
  encoding: 'utf8',
  env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.examples.json' },
});
assert.match(described, /parameters can be pruned/);

await checkEvaluatedCode();

// What is published is what users need, and no test, model or text.
const [packed] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json'], { encoding: 'utf8' })) as [
  { readonly files: readonly { readonly path: string }[]; readonly unpackedSize: number },
];
const PUBLISHED =
  /^(dist\/(standalone\/)?[\w-]+(\.d)?\.c?[jt]s(\.map)?|README\.md|LICENSE|CHANGELOG\.md|THIRD-PARTY-LICENSES\.md|package\.json)$/;
const stray = packed.files.filter(({ path }) => !PUBLISHED.test(path)).map(({ path }) => path);
assert.deepEqual(stray, [], 'the package would hold files that nobody asked for');
assert.ok(packed.unpackedSize < 16e6, `the package has ${packed.unpackedSize} bytes unpacked, more than 16 MB`);

const notices = readFileSync('THIRD-PARTY-LICENSES.md', 'utf8');
const { packages: onPage } = await buildPage();
const named = new Set(notices.split(/[\s,|;]+/));
const unnamed = [...compiledInPackages(), ...onPage].filter((name) => !named.has(name));
assert.deepEqual(unnamed, [], 'dist/ contains code of packages that THIRD-PARTY-LICENSES.md does not name');

console.log('The package loads by import, by require and from the command line.');

function compiledInPackages(): string[] {
  const maps = readdirSync('dist').filter((name) => name.endsWith('.map'));
  const sources = maps.flatMap(
    (name) => (JSON.parse(readFileSync(`dist/${name}`, 'utf8')) as { sources: string[] }).sources,
  );
  const names = sources.flatMap((source) => source.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []);
  return [...new Set(names)];
}

function runNode(type: 'module' | 'commonjs', code: string): string {
  return execFileSync('node', [`--input-type=${type}`, '--eval', code], { encoding: 'utf8' }).trim();
}
