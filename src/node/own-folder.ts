import { lstat, readdir, readFile, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import {
  checkReplaceable,
  type FoundFile,
  type ListedFiles,
  MANIFEST,
  readManifest,
} from '../runtime/folder-manifest.js';
import { writing } from '../runtime/writing.js';
import { exists } from './paths.js';
import { INSIDE } from './workspace-path.js';

/** Enough for a model with one file per weight. */
const MAX_MANIFEST_BYTES = 2 ** 24;

/** Refuses a folder with files that no run wrote. @throws OptionError naming the first one */
export async function checkOwn(folder: string, output: string): Promise<void> {
  await checkReplaceable(output, walkFolder(folder), await readManifestFile(join(folder, MANIFEST)));
}

/** Files of a manifest; undefined if missing. */
export async function readListing(path: string): Promise<ListedFiles | undefined> {
  const bytes = await readManifestFile(path);
  return bytes && readManifest(bytes);
}

async function readManifestFile(path: string): Promise<Uint8Array | undefined> {
  const stats = await lstat(path).catch(() => undefined);
  return stats?.isFile() && stats.size <= MAX_MANIFEST_BYTES ? readFile(path) : undefined;
}

/** Walks a folder recursively, by name, without its workspace and without following links. */
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

/** Removes the files of a folder's manifest, and then the folder if it is empty. */
export async function removeOwn(folder: string): Promise<void> {
  const listed = await readListing(join(folder, MANIFEST));
  await removeListed(folder, (path) => path === MANIFEST || listed?.has(path) === true);
}

/** Removes listed files of a folder, then empty folders. The manifest is removed last, since it identifies the remaining files. */
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

/** Removes empty subfolders. @param paths removed files, relative to the folder */
export async function removeEmpty(folder: string, paths: readonly string[]): Promise<void> {
  const inner = new Set<string>();
  for (const path of paths) for (let at = dirname(`${path}x`); at !== '.'; at = dirname(at)) inner.add(at);
  for (const path of [...inner].sort((a, b) => b.length - a.length))
    await rmdir(join(folder, path)).catch(() => undefined);
}
