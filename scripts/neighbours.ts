/**
 * Installs the packed library as its users do, alone and together with others, and prunes there. Takes minutes, and downloads
 * about 1 GB from the npm registry, the only server that is used.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Table from 'cli-table3';

interface Case {
  readonly name: string;
  readonly manager: 'npm' | 'pnpm';
  /** Installed one after the other. */
  readonly steps: readonly (readonly string[])[];
  readonly runs: readonly Run[];
  /** Whether onnxruntime-node's install script must not download anything. Default true. */
  readonly skipsDownload?: boolean;
}

interface Run {
  readonly name: string;
  readonly command: readonly string[];
  /** @returns a description of the result. @throws for a failed check. */
  readonly check: (output: string) => string;
}

const ROOT = mkdtempSync(join(tmpdir(), 'fang-prune-neighbours-'));
const PACKAGE = join(
  ROOT,
  execFileSync('npm', ['pack', '--silent', '--pack-destination', ROOT], { encoding: 'utf8' }).trim(),
);

const ALONE: readonly Run[] = [{ name: 'ESM', command: ['node', 'prune.mjs'], check: checkPruned('wasm') }];

const BESIDE: readonly Run[] = [
  { name: 'ESM', command: ['node', 'beside.mjs'], check: checkBeside },
  { name: 'CJS', command: ['node', 'beside.cjs'], check: checkBeside },
];

const JEST: readonly Run[] = [
  { name: 'CJS', command: ['npx', 'jest', 'examples/jest'], check: () => 'passed in the default environment' },
];

const CASES: readonly Case[] = [
  { name: 'alone, no native runtime', manager: 'npm', steps: [['--omit=optional', PACKAGE]], runs: ALONE },
  {
    name: 'alone, install script as it is',
    manager: 'npm',
    steps: [[PACKAGE]],
    runs: [{ name: 'ESM', command: ['node', 'prune.mjs'], check: checkPruned('cpu', 'wasm') }],
    skipsDownload: false,
  },
  { name: 'jest 30', manager: 'npm', steps: [[PACKAGE, 'jest@30']], runs: JEST },
  ...['3.8', '4.2', '4.3'].flatMap((version): Case[] => {
    const transformers = `@huggingface/transformers@~${version}.0`;
    const name = `transformers.js ${version}`;
    return [
      { name, manager: 'npm', steps: [[PACKAGE, transformers]], runs: BESIDE },
      { name: `${name}, installed later`, manager: 'npm', steps: [[PACKAGE], [transformers]], runs: BESIDE },
      { name, manager: 'pnpm', steps: [[PACKAGE, transformers]], runs: BESIDE },
    ];
  }),
];

const table = new Table({ head: ['beside', 'by', 'as', '', 'seen'] });
for (const [at, { name, manager, runs, ...installation }] of CASES.entries()) {
  const folder = join(ROOT, String(at));
  const installed = attempt(() => install(folder, { manager, ...installation }));
  for (const run of runs) {
    const { isSound, seen } = installed.isSound ? attempt(() => run.check(execute(folder, run.command))) : installed;
    table.push([name, manager, run.name, isSound ? 'ok' : 'FAILED', seen]);
    if (!isSound) process.exitCode = 1;
    console.error(`${isSound ? 'ok' : 'FAILED'}: ${name} (${manager}, ${run.name})`);
  }
  rmSync(folder, { recursive: true, force: true });
}
rmSync(ROOT, { recursive: true, force: true });
console.log(table.toString());

function attempt(action: () => string): { readonly isSound: boolean; readonly seen: string } {
  try {
    return { isSound: true, seen: action() };
  } catch (error) {
    const { stderr, message } = error as { readonly stderr?: string; readonly message: string };
    return { isSound: false, seen: (stderr || message).slice(-600) };
  }
}

/** Makes a project as a user would, with the small model in it. */
function install(folder: string, { manager, steps, skipsDownload = true }: Omit<Case, 'name' | 'runs'>): string {
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  for (const kept of ['examples/models/tiny-llama', 'examples/jest'])
    cpSync(kept, join(folder, kept), { recursive: true });
  cpSync('scripts/neighbours', folder, { recursive: true });
  const skip = skipsDownload ? { ONNXRUNTIME_NODE_INSTALL: 'skip', ONNXRUNTIME_NODE_INSTALL_CUDA: 'skip' } : {};
  for (const step of steps) {
    const command = {
      npm: ['npm', 'install', '--no-audit', '--no-fund', '--cache', join(ROOT, 'npm-cache'), ...step],
      pnpm: ['npx', '--yes', 'pnpm@10', 'add', '--store-dir', join(ROOT, 'pnpm-store'), ...step],
    }[manager];
    execute(folder, command, skip);
  }
  return 'installed';
}

/** Runs a program without npm's environment variables of this repository, such as `ignore-scripts`. */
function execute(folder: string, [program = '', ...args]: readonly string[], more: NodeJS.ProcessEnv = {}): string {
  const own = Object.entries(process.env).filter(([name]) => !/^(npm_|ONNXRUNTIME_)/i.test(name));
  const env = { ...Object.fromEntries(own), ...more };
  return execFileSync(program, args, { cwd: folder, env, encoding: 'utf8', stdio: 'pipe' });
}

interface Seen {
  readonly environment: { readonly onnxRuntime: string; readonly executionProvider: string };
  readonly parameters: { readonly before: number; readonly after: number };
  readonly text?: string;
  /** Native libraries in the process. */
  readonly loaded: readonly string[];
}

function readSeen(output: string): Seen {
  const seen = JSON.parse(output.trim().split('\n').at(-1)!) as Seen;
  assert.ok(seen.parameters.after < seen.parameters.before, 'nothing was pruned');
  return seen;
}

function checkPruned(...providers: readonly string[]) {
  return (output: string): string => {
    const { environment } = readSeen(output);
    assert.ok(providers.includes(environment.executionProvider), `ran on ${environment.executionProvider}`);
    return `pruned on ${environment.executionProvider}, ONNX Runtime ${environment.onnxRuntime}`;
  };
}

function checkBeside(output: string): string {
  const { environment, text = '', loaded } = readSeen(output);
  assert.equal(loaded.length, 1, `native runtimes in one process: ${loaded.join(', ')}`);
  assert.ok(text.startsWith('The city of') && text.length > 'The city of'.length, `transformers.js wrote "${text}"`);
  return `pruned on ${environment.executionProvider}, ONNX Runtime ${environment.onnxRuntime}; wrote "${text}"`;
}
