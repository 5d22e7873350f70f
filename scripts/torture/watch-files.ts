import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Functions that open, list, create or remove files; `stat` is allowed. */
const CALLS = [
  ...['open', 'readFile', 'writeFile', 'appendFile', 'readdir', 'opendir', 'copyFile', 'cp', 'link', 'symlink'],
  ...['rename', 'rm', 'rmdir', 'unlink', 'mkdir', 'mkdtemp', 'truncate', 'createReadStream', 'createWriteStream'],
];

/** Paths that a trial may open: its folders and scratch space, the sources, which load on demand, and files about its memory. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ALLOWED = [
  join(tmpdir(), 'fang-prune-'),
  ...[ROOT, fs.realpathSync(join(ROOT, 'node_modules'))].map((folder) => resolve(folder) + sep),
  '/proc/self/',
  '/proc/thread-self/',
];

/** Start time of a process, which shows whether the holder of a lock is alive. */
const PROCESS_TIMES = /^\/proc\/\d+\/stat$/;

const isAllowed = (place: string): boolean =>
  PROCESS_TIMES.test(place) || ALLOWED.some((allowed) => `${place}${sep}`.startsWith(allowed));

/**
 * Watches the files that this process opens from now on, except for those of native code.
 * @returns a function that returns unexpected paths since the last call
 */
export function watchFiles(): () => readonly string[] {
  let strays: string[] = [];
  const watch = (owner: Record<string, unknown>, name: string) => {
    const call = owner[name];
    if (typeof call !== 'function') return;
    owner[name] = function (this: unknown, first: unknown, ...rest: unknown[]) {
      // A link is made at the second one; the first is opened by nobody.
      const path = name.startsWith('symlink') ? rest[0] : first;
      const place = path instanceof URL ? fileURLToPath(path) : typeof path === 'string' ? resolve(path) : undefined;
      if (place !== undefined && !isAllowed(place)) strays.push(place);
      return Reflect.apply(call, this, [first, ...rest]);
    };
  };
  for (const name of CALLS) {
    for (const owner of [fs, fs.promises]) watch(owner as unknown as Record<string, unknown>, name);
    watch(fs as unknown as Record<string, unknown>, `${name}Sync`);
  }
  syncBuiltinESMExports();
  return () => {
    const found = strays;
    strays = [];
    return found;
  };
}
