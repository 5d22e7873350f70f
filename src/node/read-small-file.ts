import { lstat, readFile } from 'node:fs/promises';

/** Largest size in bytes of a run's small state files. */
export const MAX_BYTES = 2 ** 16;

/** Reads a small state file of a run; refuses pipes, links and large files. @throws Error */
export async function readSmallFile(path: string): Promise<string> {
  const stats = await lstat(path);
  if (!stats.isFile() || stats.size > MAX_BYTES) throw new Error(`${path} is not a file that a run writes`);
  return readFile(path, 'utf8');
}
