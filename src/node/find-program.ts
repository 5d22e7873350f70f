import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EngineError } from '../errors.js';
import { VERSION } from '../version.js';
import { requireFrom } from './host-require.js';
import { MODULE_URL } from './module-url.js';

/** Programs of the package: their sources are in this folder, and the build puts them into `dist`. */
export type ProgramName = 'bench-worker' | 'isolated-worker';

const PACKAGE = 'fang-prune';

/** A program of the package: its path, and arguments of Node.js. */
export interface Program {
  readonly path: string;
  readonly execArgv: readonly string[];
}

/**
 * Finds a program of the package: from its own sources, where a worker is TypeScript and Node.js needs `tsx` to read
 * it; next to this code in `dist`; or, from a bundle, in the installed package of the same version. The current folder
 * is never searched.
 * @param moduleUrl URL of this code
 * @throws EngineError when it is not found.
 */
export function findProgram(name: ProgramName, moduleUrl = MODULE_URL): Program {
  const file = moduleUrl?.startsWith('file:') ? fileURLToPath(moduleUrl) : undefined;
  const root = file && findPackage(file);
  if (root === undefined)
    throw new EngineError(
      `${name}.js of fang-prune ${VERSION} cannot be found from ${file ?? 'code that was evaluated as text'}. A bundle does not ` +
        'contain this program: leave fang-prune out of it (mark it as external), and keep it in node_modules',
    );
  if (file!.endsWith('.ts')) return { path: join(root, 'src/node', `${name}.ts`), execArgv: ['--import', 'tsx'] };
  return { path: join(root, 'dist', `${name}.js`), execArgv: [] };
}

/** Folder of the package: the one of a module, or the installed one. */
function findPackage(file: string): string | undefined {
  let folder = dirname(file);
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder);
  if (isPackage(folder)) return folder;
  try {
    const installed = dirname(requireFrom(file).resolve(`${PACKAGE}/package.json`));
    return isPackage(installed) ? installed : undefined;
  } catch {
    return undefined;
  }
}

function isPackage(folder: string): boolean {
  try {
    const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
    return name === PACKAGE && version === VERSION;
  } catch {
    return false;
  }
}
