import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execute, makeProject, type Workshop } from './fresh-project.js';

interface Runtime {
  readonly name: string;
  /** Installed next to the library; each brings its program. */
  readonly packages: readonly string[];
  readonly command: readonly string[];
}

/** Runtimes of the Node.js entry; the others are compared with the first. */
export const RUNTIMES: readonly Runtime[] = [
  { name: 'Node.js', packages: [], command: ['node'] },
  { name: 'Bun', packages: ['bun'], command: ['npx', 'bun'] },
  { name: 'Deno', packages: ['deno'], command: ['npx', 'deno', 'run', '--allow-all'] },
];

/** Prunes with the packed library in Node.js, Bun and Deno: in the process, in an isolated one, and by resuming a run. */
export async function tryRuntimes(workshop: Workshop, runtimes: readonly Runtime[]): Promise<void> {
  const expected = await tryRuntime(workshop, RUNTIMES[0]!);
  for (const runtime of runtimes.filter(({ name }) => name !== 'Node.js')) {
    const seen = await tryRuntime(workshop, runtime);
    assert.ok(String(seen.runtime).startsWith(runtime.name), `the report names ${seen.runtime}, not ${runtime.name}`);
    assert.deepEqual({ ...seen, runtime: '' }, { ...expected, runtime: '' }, `${runtime.name} makes something else`);
    console.log(
      `${seen.runtime} writes what ${expected.runtime} writes, with isolate too, and resumes where it was cut off.`,
    );
  }
}

async function tryRuntime(workshop: Workshop, { name, packages, command }: Runtime): Promise<Record<string, unknown>> {
  const folder = await makeProject(workshop, `runtime-${name}`, [workshop.tarball, ...packages]);
  cpSync('scripts/consumers/runtimes/prune.mjs', join(folder, 'prune.mjs'));
  const said = await execute(folder, [...command, 'prune.mjs', resolve('examples/models/tiny-llama')]);
  const seen = JSON.parse(said.trim().split('\n').at(-1)!) as { readonly hashes: readonly string[] };
  assert.equal(new Set(seen.hashes).size, 1, `${name} writes other bytes in another process, or after a cut`);
  assert.deepEqual(
    { ...seen, hashes: [], runtime: '' },
    { hashes: [], runtime: '', cut: 'cut off', isKept: true, wrong: 'ERR_OPTION' },
  );
  return { ...seen };
}
