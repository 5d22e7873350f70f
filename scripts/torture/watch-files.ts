import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What opens, lists, makes or takes away a file; asking what lies at a path does no harm. */
const CALLS = [
  ...['open', 'readFile', 'writeFile', 'appendFile', 'readdir', 'opendir', 'copyFile', 'cp', 'link', 'symlink'],
  ...['rename', 'rm', 'rmdir', 'unlink', 'mkdir', 'mkdtemp', 'truncate', 'createReadStream', 'createWriteStream'],
];

/** Where a trial may work: its own folders and scratch space, the sources, which load on demand, and what tells its memory. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ALLOWED = [
  join(tmpdir(), 'fang-prune-'),
  ...[ROOT, fs.realpathSync(join(ROOT, 'node_modules'))].map((folder) => resolve(folder) + sep),
  '/proc/self/',
  '/proc/thread-self/',
];

/** When a process began, which tells whether the holder of a lock is alive. */
const PROCESS_TIMES = /^\/proc\/\d+\/stat$/;

const isAllowed = (place: string): boolean =>
  PROCESS_TIMES.test(place) || ALLOWED.some((allowed) => `${place}${sep}`.startsWith(allowed));

/**
 * Watches which files this process opens from now on. What native code opens is not seen.
 * @returns gives the paths that no trial has reason to open, and forgets them
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
