import { appendFile, readFile } from 'node:fs/promises';
import { writing } from '../runtime/writing.js';
import { relativeInside } from './paths.js';

/** Folders under construction in this process, with their list files. */
const building = new Map<string, string>();

/**
 * Builds a folder and lists each file in a list file before it is created, so that after a crash the run's files can be
 * distinguished from the user's.
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

/** Adds a file to the list, before it is created. */
export async function listFile(path: string): Promise<void> {
  for (const [folder, list] of building) {
    const inside = relativeInside(folder, path);
    if (inside !== undefined) await addToList(list, [inside]);
  }
}

export function addToList(list: string, paths: readonly string[]): Promise<void> {
  return writing(list, () => appendFile(list, paths.map((path) => `${JSON.stringify(path)}\n`).join('')));
}

/** Paths in a list, relative to its folder; empty without a list. */
export async function readList(list: string): Promise<ReadonlySet<string>> {
  const text = await readFile(list, 'utf8').catch(() => '');
  return new Set(text.split('\n').flatMap(parseLine));
}

/** The last line may be incomplete after a crash: its file was not created. */
function parseLine(line: string): string[] {
  try {
    return [String(JSON.parse(line))];
  } catch {
    return [];
  }
}
