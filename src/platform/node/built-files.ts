import { appendFile, readFile } from 'node:fs/promises';
import { writing } from '../writing.js';
import { relativeInside } from './paths.js';

/** Folders that are being built here, and the files that list what is made in them. */
const building = new Map<string, string>();

/**
 * Builds a folder while a list next to it names each file before it is made, so that after a kill it is known which files are the
 * run's and which are the user's.
 */
export async function listingFiles<T>(
  { folder, list }: { readonly folder: string; readonly list: string },
  build: () => Promise<T>,
): Promise<T> {
  building.set(folder, list);
  try {
    return await build();
  } finally {
    building.delete(folder);
  }
}

/** To be called before a file is made. */
export async function listFile(path: string): Promise<void> {
  for (const [folder, list] of building) {
    const inside = relativeInside(folder, path);
    if (inside !== undefined) await addToList(list, [inside]);
  }
}

export function addToList(list: string, paths: readonly string[]): Promise<void> {
  return writing(list, () => appendFile(list, paths.map((path) => `${JSON.stringify(path)}\n`).join('')));
}

/** Paths in a list, relative to its folder; none where there is no list. */
export async function readList(list: string): Promise<ReadonlySet<string>> {
  const text = await readFile(list, 'utf8').catch(() => '');
  return new Set(text.split('\n').flatMap(parseLine));
}

/** A kill may have cut the last line: its file was not made. */
function parseLine(line: string): string[] {
  try {
    return [String(JSON.parse(line))];
  } catch {
    return [];
  }
}
