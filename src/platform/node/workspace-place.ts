import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exists } from './paths.js';

/** Workspace of an output that is a mount point: what lies next to it is on another disk, and its folder cannot be renamed. */
export const INSIDE = '.fang-prune.partial';

/** The workspace of an output: a folder next to it, or in it where it is a mount point or has one from then. @param target links resolved */
export async function placeWorkspace(target: string): Promise<string> {
  const inside = join(target, INSIDE);
  return (await exists(inside)) || (await isMountPoint(target)) ? inside : partialPathOf(target);
}

/** The workspace next to an output. */
export const partialPathOf = (target: string): string => `${target}.partial`;

/** Whether another file system, or another folder of the same one, begins at a folder. */
async function isMountPoint(folder: string): Promise<boolean> {
  const [own, outer] = await Promise.all([folder, dirname(folder)].map((path) => stat(path).catch(() => undefined)));
  if (own === undefined || outer === undefined || !own.isDirectory()) return false;
  if (own.dev !== outer.dev) return true;
  // Parts of one file system that are bound to other places have its number too.
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return mounts.split('\n').some((line) => unescapeOctal(line.split(' ')[4] ?? '') === folder);
}

const unescapeOctal = (path: string): string =>
  path.replace(/(?:\\[0-7]{3})+/g, (bytes) =>
    Buffer.from(
      bytes
        .slice(1)
        .split('\\')
        .map((byte) => Number.parseInt(byte, 8)),
    ).toString(),
  );
