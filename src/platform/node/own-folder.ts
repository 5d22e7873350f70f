import { lstat, readdir, readFile, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorMessage } from '../../error-message.js';
import { OptionError } from '../../errors.js';
import { checkReplaceable, type FoundFile, type ListedFiles, MANIFEST, readManifest } from '../folder-manifest.js';
import { writing } from '../writing.js';
import { exists } from './paths.js';
import { INSIDE } from './workspace-place.js';

/** More than a model with a file for each of its weights has. */
const MOST_MANIFEST_BYTES = 2 ** 24;

/** Refuses a folder that holds anything but what a run wrote there. @throws OptionError naming the first of it */
export async function checkOwn(folder: string, output: string): Promise<void> {
  await checkReplaceable(output, walkFolder(folder), await readManifestFile(join(folder, MANIFEST)));
}

/** Files that a manifest lists; undefined where there is none. */
export async function readListing(path: string): Promise<ListedFiles | undefined> {
  const bytes = await readManifestFile(path);
  return bytes && readManifest(bytes);
}

async function readManifestFile(path: string): Promise<Uint8Array | undefined> {
  const stats = await lstat(path).catch(() => undefined);
  return stats?.isFile() && stats.size <= MOST_MANIFEST_BYTES ? readFile(path) : undefined;
}

/** All that is in a folder, by name, but for a workspace in it; no link is followed. */
export async function* walkFolder(folder: string, inside = ''): AsyncGenerator<FoundFile> {
  const entries = await readdir(join(folder, inside), { withFileTypes: true }).catch((cause) => {
    throw new OptionError(`Cannot list ${join(folder, inside)}: ${errorMessage(cause)}.`, { cause });
  });
  if (entries.length === 0 && inside !== '') yield { path: inside, byteLength: undefined };
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = inside + entry.name;
    if (path === INSIDE) continue;
    if (entry.isDirectory()) yield* walkFolder(folder, `${path}/`);
    else yield { path, byteLength: entry.isFile() ? (await lstat(join(folder, path))).size : undefined };
  }
}

/** Removes a folder that a run wrote, but for files that its manifest does not list. */
export async function removeOwn(folder: string): Promise<void> {
  const listed = await readListing(join(folder, MANIFEST));
  await removeListed(folder, (path) => path === MANIFEST || listed?.has(path) === true);
}

/** Removes files of a folder, and then it and those in it, where nothing else is in them. The manifest goes last: it says whose the rest is. */
export async function removeListed(folder: string, isListed: (path: string) => boolean): Promise<void> {
  if (!(await exists(folder))) return;
  const paths: string[] = [];
  for await (const { path } of walkFolder(folder)) paths.push(path);
  const remove = (path: string) => writing(path, () => unlink(join(folder, path)));
  for (const path of paths) if (path !== MANIFEST && !path.endsWith('/') && isListed(path)) await remove(path);
  await removeEmpty(folder, paths);
  if (paths.includes(MANIFEST) && isListed(MANIFEST)) await remove(MANIFEST);
  await rmdir(folder).catch(() => undefined);
}

/** Removes folders in a folder that nothing is in any more. @param paths what was in them, relative to it */
export async function removeEmpty(folder: string, paths: readonly string[]): Promise<void> {
  const inner = new Set<string>();
  for (const path of paths) for (let at = dirname(`${path}x`); at !== '.'; at = dirname(at)) inner.add(at);
  for (const path of [...inner].sort((a, b) => b.length - a.length))
    await rmdir(join(folder, path)).catch(() => undefined);
}
