import { randomUUID } from 'node:crypto';
import { lstat, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HashCache } from '../runtime/platform.js';

const HASH = /^[0-9a-f]{64}$/;
/** Permission bits that allow others to write. */
const OTHERS_WRITE = 0o022;

/**
 * Caches hashes as small files in a folder that only the user may write to. Failures are ignored: hashes are then
 * computed again.
 * @param parent existing folder
 */
export function createHashCache(parent = tmpdir()): HashCache {
  const owner = process.getuid?.();
  const folder = join(parent, `fang-prune-hashes${owner === undefined ? '' : `-${owner}`}`);
  const isPrivate = async () => {
    const stats = await lstat(folder);
    return stats.isDirectory() && (owner === undefined || (stats.uid === owner && (stats.mode & OTHERS_WRITE) === 0));
  };
  return {
    async get(name) {
      try {
        const found = (await isPrivate()) ? await readFile(join(folder, name), 'latin1') : '';
        return HASH.test(found) ? found : undefined;
      } catch {
        return undefined;
      }
    },
    async put(name, hash) {
      const path = join(folder, name);
      const unfinished = `${path}.${randomUUID()}`;
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 });
        if (!(await isPrivate())) return;
        await writeFile(unfinished, hash);
        await rename(unfinished, path);
      } catch {
        await rm(unfinished, { force: true }).catch(() => undefined);
      }
    },
  };
}
