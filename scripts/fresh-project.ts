/** Projects as users make them: the packed library, installed from nothing but that file and the npm registry. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A folder for all that a script makes, and the library in it as npm would get it. */
export interface Workshop {
  readonly root: string;
  /** Path of the packed library. */
  readonly tarball: string;
  remove(): void;
}

/** Packs `dist`, which must be built. */
export async function openWorkshop(): Promise<Workshop> {
  const root = mkdtempSync(join(tmpdir(), 'fang-prune-fresh-'));
  const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', root]);
  return {
    root,
    tarball: join(root, stdout.trim()),
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}

/** An empty project with packages in it. */
export async function makeProject({ root }: Workshop, name: string, packages: readonly string[]): Promise<string> {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }');
  const cache = join(root, 'npm-cache');
  await execute(
    folder,
    ['npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', '--cache', cache, ...packages],
    {
      ONNXRUNTIME_NODE_INSTALL: 'skip',
      ONNXRUNTIME_NODE_INSTALL_CUDA: 'skip',
    },
  );
  return folder;
}

/** Runs a program without npm's environment variables of this repository. @returns its output. @throws with its output */
export async function execute(
  folder: string,
  [program = '', ...args]: readonly string[],
  more: NodeJS.ProcessEnv = {},
): Promise<string> {
  const own = Object.entries(process.env).filter(([name]) => !/^(npm_|ONNXRUNTIME_|HF_)/i.test(name));
  const env = { ...Object.fromEntries(own), ...more };
  const { stdout } = await run(program, args, { cwd: folder, env, maxBuffer: 2 ** 26 });
  return stdout;
}
