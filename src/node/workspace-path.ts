import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exists } from './paths.js';

/** Name of the workspace inside an output that is a mount point: it cannot be renamed, and its parent is on another disk. */
export const INSIDE = '.fang-prune.partial';

/** Path of an output's workspace: next to it, or inside it if it is a mount point or already contains one. @param target links resolved */
export async function workspacePath(target: string): Promise<string> {
  const inside = join(target, INSIDE);
  return (await exists(inside)) || (await isMountPoint(target)) ? inside : partialPathOf(target);
}

/** The workspace next to an output. */
export const partialPathOf = (target: string): string => `${target}.partial`;

/** Whether a folder is a mount point, bind mounts included. */
async function isMountPoint(folder: string): Promise<boolean> {
  const [stats, outer] = await Promise.all([folder, dirname(folder)].map((path) => stat(path).catch(() => undefined)));
  if (stats === undefined || outer === undefined || !stats.isDirectory()) return false;
  if (stats.dev !== outer.dev) return true;
  // Bind mounts have the same device number.
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
