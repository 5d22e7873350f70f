import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPackage } from '../support/built-package.js';

let folder = '';
let child: ChildProcess | undefined;
let cli = '';

beforeAll(async () => {
  cli = join(await buildPackage(), 'dist/cli.js');
});

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fang-prune-interrupt-'));
});

afterEach(() => {
  child?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a long pruning run and resolves once it reports progress. */
async function startPruning() {
  const args =
    'prune examples/models/tiny-llama --sparsity 0.3 --method flap --windows 2000 --window-length 256 --out'.split(' ');
  child = spawn(process.execPath, [cli, ...args, join(folder, 'pruned')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Build servers get colours even through a pipe.
    env: { ...process.env, TMPDIR: folder, NO_COLOR: '1' },
  });
  const output = { out: '', err: '' };
  child.stdout?.on('data', (bytes) => {
    output.out += bytes;
  });
  child.stderr?.on('data', (bytes) => {
    output.err += bytes;
  });
  await once(child.stderr!, 'data');
  return { process: child, output, closed: once(child, 'close') as Promise<[code: number | null]> };
}

it('stops the run at Ctrl-C with exit code 130, and leaves no files', async () => {
  const { process, output, closed } = await startPruning();
  process.kill('SIGINT');
  const [code] = await closed;
  expect(code).toBe(130);
  expect(output.out).toBe('');
  expect(output.err).toContain('Stopping (Ctrl-C again quits at once)\n');
  expect(output.err).toContain('fang-prune: interrupted; nothing was written\n');
  expect(readdirSync(folder)).toEqual([]);
});

it('ends at once at Ctrl-C after SIGTERM', async () => {
  const { process, output, closed } = await startPruning();
  process.kill('SIGTERM');
  while (!output.err.includes('Stopping')) await once(process.stderr!, 'data');
  expect(output.err).not.toContain('Ctrl-C');
  process.kill('SIGINT');
  const [code] = await closed;
  expect(code).toBe(130);
});
