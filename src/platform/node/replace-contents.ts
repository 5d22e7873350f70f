import { mkdir, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OptionError } from '../../errors.js';
import { findObstacle, formatManifest, type ListedFiles, MANIFEST } from '../folder-manifest.js';
import { writing } from '../writing.js';
import { createFileSink } from './file-sink.js';
import { readListing, removeEmpty, removeListed, walkFolder } from './own-folder.js';
import { exists } from './paths.js';
import { syncFolder } from './sync-file.js';

/** In a workspace: lists the files of an output that is being replaced, from when the new ones are complete until they have its place. */
export const REPLACING = 'replacing.json';
/** Name of that file while it is written. */
export const REPLACING_NEW = `${REPLACING}.new`;

/** A result that is complete, in a workspace on the disk of the output. */
export interface Replacing {
  readonly workspace: string;
  readonly result: string;
  /** Folder whose contents are replaced; it remains itself. */
  readonly target: string;
  /** As the user named it. */
  readonly output: string;
}

/**
 * Replaces what is in a folder that cannot be renamed, file by file. Until the list has its name, the old files are untouched; from
 * then on the new ones are complete, and `finishReplacing` can do the rest after a kill.
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

/** Gives the new files their places. @throws OptionError where one of the old ones has changed meanwhile. */
export async function finishReplacing({ workspace, result, target, output }: Replacing): Promise<void> {
  const list = join(workspace, REPLACING);
  const old = await readListing(list);
  if (old === undefined) {
    if (await exists(list)) throw new OptionError(`${list} is damaged. Move it away, and make ${output} again.`);
    return;
  }
  const own = await readListing(join(result, MANIFEST));
  // The new manifest is the last to move.
  if (own !== undefined) await replaceFiles({ result, target, output }, old, own);
  await removeListed(result, (path) => own?.has(path) === true);
  await rm(list);
  await syncFolder(workspace);
}

async function replaceFiles(
  { result, target, output }: Pick<Replacing, 'result' | 'target' | 'output'>,
  old: ListedFiles,
  own: ListedFiles,
): Promise<void> {
  const moves: string[] = [];
  if (await exists(result))
    for await (const { path } of walkFolder(result)) if (path !== MANIFEST && own.has(path)) moves.push(path);
  const removals: string[] = [];
  for await (const file of walkFolder(target)) {
    const { path } = file;
    const isReplaced = moves.includes(path);
    if (path === MANIFEST || (!isReplaced && (own.has(path) || !old.has(path)))) continue;
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
