import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { runWithDouble } from './support/cli.js';

const FOLDER = 'examples/fleet';
const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.(?:sh|sbatch|yaml|md)$/.test(name) && !name.includes('node_modules'))
  .map((name) => join(FOLDER, name));

/** Commands of fang-prune in a script, a manifest or a page, with their flags. */
function commandsIn(file: string): { readonly command: string; readonly flags: readonly string[] }[] {
  const text = readFileSync(file, 'utf8').replaceAll(/\\\n/g, ' ');
  const calls = text.matchAll(/(?:fang-prune\}?|\$fang_prune) (observe|merge|prune) ([^;|&\n]*)/g);
  return [...calls].map(([, command = '', rest = '']) => ({ command, flags: rest.match(/--[a-z-]+/g) ?? [] }));
}

it('calls commands with flags that exist in the files for clusters', async () => {
  const called = files.flatMap(commandsIn);
  const counts = new Map<string, number>();
  for (const { command } of called) counts.set(command, (counts.get(command) ?? 0) + 1);
  // Slurm, Kubernetes and Hugging Face Jobs: windows and shards, merge, prune.
  expect(Object.fromEntries(counts)).toEqual({ observe: 6, merge: 3, prune: 3 });
  const helps = new Map<string, string>();
  for (const command of counts.keys())
    helps.set(command, (await runWithDouble(`${command} ${command === 'prune' ? '--help-all' : '--help'}`)).out);
  const unknown = called.flatMap(({ command, flags }) =>
    flags.filter((flag) => !new RegExp(`${flag}[ \\n]`).test(helps.get(command)!)).map((flag) => `${command} ${flag}`),
  );
  expect(unknown).toEqual([]);
});

it('creates a tree of jobs: the table waits for evaluations, and each for its ladder', async () => {
  interface Job {
    readonly name: string;
    readonly data: Readonly<Record<string, unknown>>;
    readonly children?: readonly Job[];
  }
  const { createFlow } = (await import(resolve(FOLDER, 'sweep/src/flow.ts'))) as {
    createFlow(sweep: object, out: string): Job;
  };
  const sweep = JSON.parse(readFileSync(join(FOLDER, 'sweep/tiny.json'), 'utf8')) as Record<string, unknown>;
  const flow = createFlow({ ...sweep, models: ['a/one', 'b/one'], methods: ['flap', 'obc'] }, 'out');
  expect(flow).toMatchObject({ name: 'table', data: { models: ['a/one', 'b/one'], out: 'out' } });
  const evaluations = flow.children!.map(({ name, data, children = [] }) => [
    name,
    data.model,
    children.map((child) => [child.name, child.data.method, child.data.out, child.data.sparsities]),
  ]);
  const ladder = (method: string, out: string) => [['prune', method, out, [0.1, 0.3]]];
  expect(evaluations).toEqual([
    ['evaluate', 'a/one', []],
    ['evaluate', 'a/one', ladder('flap', 'out/0-one-flap')],
    ['evaluate', 'a/one', ladder('obc', 'out/0-one-obc')],
    ['evaluate', 'b/one', []],
    ['evaluate', 'b/one', ladder('flap', 'out/1-one-flap')],
    ['evaluate', 'b/one', ladder('obc', 'out/1-one-obc')],
  ]);
});
