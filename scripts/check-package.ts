/**
 * Loads the built package as users do (`import`, `require`, the command line), compiles against its typings, runs publint and
 * attw on the package to publish, and checks licences and package.json.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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

const LOADERS = {
  module: (entry: string) => `await import('${entry}')`,
  commonjs: (entry: string) => `require('${entry}')`,
} as const;

/** Exported names of each entry, and whether the entries share an error class. */
interface Entries {
  readonly main: string;
  readonly core: string;
  readonly isOneClass: boolean;
}

const [imported, required] = (['module', 'commonjs'] as const).map((type) => {
  const load = LOADERS[type];
  const code = `
    const names = (module) => Object.keys(module).filter((name) => name !== 'default' && name !== '__esModule').sort().join();
    const [main, core] = [${load('fang-prune')}, ${load('fang-prune/core')}];
    console.log(JSON.stringify({ main: names(main), core: names(core), isOneClass: main.OptionError === core.OptionError }));
  `;
  return JSON.parse(runNode(type, code)) as Entries;
}) as [Entries, Entries];
assert.deepEqual(required, imported, 'an entry exports other names to require than to import');
assert.ok(imported.main !== '' && imported.core !== '', 'an entry exports nothing');
assert.ok(imported.isOneClass, 'the entries have an OptionError each');

// The typings must not need those of a browser, with or without Node.js's typings.
for (const more of [[], ['--types', 'node']]) {
  run('node_modules/typescript/bin/tsc', '-p', 'scripts/consumer', ...more);
}

assert.equal(execFileSync('node', ['dist/cli.js', '--version'], { encoding: 'utf8' }).trim(), version);

// Without the path mapping of tsconfig.json an example's `fang-prune` is the built package.
const described = execFileSync('node', ['--import', 'tsx', 'examples/02-describe-a-model.ts'], {
  encoding: 'utf8',
  env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.examples.json' },
});
assert.match(described, /parameters can be pruned/);

await checkEvaluatedCode();

// The package must contain only files for users, and no test, model or text.
const folder = mkdtempSync(join(tmpdir(), 'fang-prune-pack-'));
const pack = execFileSync('npm', ['pack', '--json', '--pack-destination', folder], { encoding: 'utf8' });
const [packed] = JSON.parse(pack) as [
  {
    readonly filename: string;
    readonly files: readonly { readonly path: string }[];
    readonly unpackedSize: number;
  },
];
const PUBLISHED =
  /^(dist\/(standalone\/)?[\w-]+(\.d)?\.c?[jt]s(\.map)?|schema\/\w+\.json|README\.md|LICENSE|CHANGELOG\.md|THIRD-PARTY-LICENSES\.md|package\.json)$/;
const stray = packed.files.filter(({ path }) => !PUBLISHED.test(path)).map(({ path }) => path);
assert.deepEqual(stray, [], 'the package would hold files that users do not need');
assert.ok(packed.unpackedSize < 17e6, `the package has ${packed.unpackedSize} bytes unpacked, more than 17 MB`);

// Both read the packed file, so that it is packed once.
const tarball = join(folder, packed.filename);
run('node_modules/publint/src/cli.js', 'run', tarball, '--strict');
run(
  'node_modules/@arethetypeswrong/cli/dist/index.js',
  tarball,
  '--profile',
  'node16',
  '--exclude-entrypoints',
  'worker',
  'standalone',
);
rmSync(folder, { recursive: true });

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

function run(program: string, ...args: readonly string[]): void {
  execFileSync(process.execPath, [program, ...args], { stdio: 'inherit' });
}

function runNode(type: 'module' | 'commonjs', code: string): string {
  return execFileSync('node', [`--input-type=${type}`, '--eval', code], { encoding: 'utf8' }).trim();
}
