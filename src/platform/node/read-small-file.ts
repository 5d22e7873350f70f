import { lstat, readFile } from 'node:fs/promises';

/** More than a line or two that a run says of itself, in bytes. */
export const MOST_BYTES = 2 ** 16;

/** Reads what a run says of itself: no pipe that brings nothing, no link to elsewhere, no file without end. @throws Error */
export async function readSmallFile(path: string): Promise<string> {
  const stats = await lstat(path);
  if (!stats.isFile() || stats.size > MOST_BYTES) throw new Error(`${path} is not a file that a run writes`);
  return readFile(path, 'utf8');
}
