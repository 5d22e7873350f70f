import { mkdir, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OptionError } from '../errors.js';
import { findObstacle, formatManifest, type ListedFiles, MANIFEST } from '../runtime/folder-manifest.js';
import { writing } from '../runtime/writing.js';
import { createFileSink } from './file-sink.js';
import { readListing, removeEmpty, removeListed, walkFolder } from './own-folder.js';
import { exists } from './paths.js';
import { syncFolder } from './sync-file.js';

/** File in a workspace that lists the old files of an output while its contents are replaced. */
export const REPLACING = 'replacing.json';
/** Temporary name of that file. */
export const REPLACING_NEW = `${REPLACING}.new`;

/** A complete result in a workspace on the output's disk. */
export interface Replacing {
  readonly workspace: string;
  readonly result: string;
  /** Folder whose contents are replaced. */
  readonly target: string;
  /** Path as given. */
  readonly output: string;
}

/**
 * Replaces the contents of a folder that cannot be renamed, file by file. Until the list file is renamed, old files are
 * untouched; afterwards `finishReplacing` can complete the replacement after a crash.
 */
export async function replaceContents(replacing: Replacing): Promise<void> {
  const { workspace, target } = replacing;
  const old = (await readListing(join(target, MANIFEST))) ?? new Map();
  const list = join(workspace, REPLACING);
  const unfinished = join(workspace, REPLACING_NEW);
  const sink = await createFileSink(unfinished);
  const files = Array.from(old, ([path, byteLength]) => ({ path, byteLength }));
  await sink.write(formatManifest(files)).finally(() => sink.close());
  await writing(list, () => rename(unfinished, list));
  await syncFolder(workspace);
  await finishReplacing(replacing);
}

/** Moves the new files to their places. @throws OptionError if an old file has changed meanwhile */
export async function finishReplacing({ workspace, result, target, output }: Replacing): Promise<void> {
  const list = join(workspace, REPLACING);
  const old = await readListing(list);
  if (old === undefined) {
    if (await exists(list)) throw new OptionError(`${list} is damaged. Move it away, and write ${output} again.`);
    return;
  }
  const listed = await readListing(join(result, MANIFEST));
  // The new manifest is moved last.
  if (listed !== undefined) await replaceFiles({ result, target, output }, old, listed);
  await removeListed(result, (path) => listed?.has(path) === true);
  await rm(list);
  await syncFolder(workspace);
}

async function replaceFiles(
  { result, target, output }: Pick<Replacing, 'result' | 'target' | 'output'>,
  old: ListedFiles,
  listed: ListedFiles,
): Promise<void> {
  const moves: string[] = [];
  if (await exists(result))
    for await (const { path } of walkFolder(result)) if (path !== MANIFEST && listed.has(path)) moves.push(path);
  const removals: string[] = [];
  for await (const file of walkFolder(target)) {
    const { path } = file;
    const isReplaced = moves.includes(path);
    if (path === MANIFEST || (!isReplaced && (listed.has(path) || !old.has(path)))) continue;
    const obstacle = findObstacle(file, old);
    if (obstacle !== undefined)
      throw new OptionError(`The output folder ${output} is not replaced: ${obstacle}. Move it away.`);
    if (!isReplaced) removals.push(path);
  }
  for (const path of removals) await writing(join(target, path), () => unlink(join(target, path)));
  await removeEmpty(target, removals);
  for (const path of [...moves, MANIFEST]) {
    const to = join(target, path);
    await writing(to, async () => {
      await mkdir(dirname(to), { recursive: true });
      await rename(join(result, path), to);
    });
  }
  for (const folder of new Set(moves.map((path) => dirname(path)).concat('.'))) await syncFolder(join(target, folder));
}
