import { copyFile, mkdir, open, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type FoundFile, formatManifest, MANIFEST } from '../runtime/folder-manifest.js';
import type { Files, OutputRequest } from '../runtime/platform.js';
import { writing } from '../runtime/writing.js';
import { addToList, listingFiles } from './built-files.js';
import { checkFree, checkOutput } from './check-output.js';
import { createFileSink } from './file-sink.js';
import { checkOwn, removeOwn, walkFolder } from './own-folder.js';
import { exists } from './paths.js';
import { replaceContents } from './replace-contents.js';
import { syncFile, syncFolder } from './sync-file.js';
import { hasCode } from './system-error.js';
import { lockWorkspace, lockWorkspaceFolder, pathsIn, removeResult, type WorkspacePaths } from './workspace.js';
import { INSIDE } from './workspace-path.js';

/**
 * Builds a folder in a workspace and renames it; an existing one is removed afterwards. In a mount point, which cannot
 * be renamed, files are replaced one by one.
 * @see Files
 */
export const buildFolder: Files['buildFolder'] = async (request, build) => {
  const target = await checkOutput(request);
  const ownLock = request.workspace?.target === target ? undefined : await lockWorkspace(target, request.output);
  const workspace = ownLock ?? { ...pathsIn(request.workspace!.folder), check: request.workspace!.check };
  const { result } = workspace;
  try {
    await removeResult(workspace);
    await writing(result, () => mkdir(result));
    const returned = await listingFiles({ folder: result, list: workspace.list }, async () => {
      const built = await build(result);
      await writeManifest(result, request.run);
      return built;
    });
    await workspace.check();
    await moveInto(workspace, target, request);
    return returned;
  } finally {
    await removeResult(workspace).finally(() => ownLock?.release());
  }
};

/** Writes the manifest and syncs the folder. */
async function writeManifest(folder: string, run: string | undefined): Promise<void> {
  const files: FoundFile[] = [];
  for await (const file of walkFolder(folder)) files.push(file);
  const sink = await createFileSink(join(folder, MANIFEST));
  await sink.write(formatManifest(files, run)).finally(() => sink.close());
  for (const inside of new Set(files.map(({ path }) => dirname(path)).concat('.')))
    await syncFolder(join(folder, inside));
}

/** Error codes of folders that cannot be renamed: mount points, and folders of lower layers of an overlay. */
const CANNOT_RENAME = ['EBUSY', 'EXDEV'];

/**
 * Moves the built folder to its name. An existing folder is checked again, since hours may have passed, and once more
 * after it has been moved aside.
 */
async function moveInto(places: WorkspacePaths, target: string, request: OutputRequest): Promise<void> {
  const { folder, result, replaced } = places;
  const { output } = request;
  await checkFree(target, request);
  if (!(await exists(target))) return renameSynced(result, target);
  if (dirname(folder) === target) return replaceContents({ workspace: folder, result, target, output });
  // Left by a run that was interrupted after the rename.
  await removeOwn(replaced);
  try {
    await rename(target, replaced);
  } catch (error) {
    if (CANNOT_RENAME.some((code) => hasCode(error, code))) return replaceInside(places, target, output);
    return writing(target, () => Promise.reject(error));
  }
  try {
    await checkOwn(replaced, output);
    await renameSynced(result, target);
  } catch (error) {
    await rename(replaced, target);
    throw error;
  }
  await removeOwn(replaced);
}

async function renameSynced(result: string, target: string): Promise<void> {
  await writing(target, () => rename(result, target));
  await syncFolder(dirname(target));
}

/** Copies the new files to the disk of the folder whose contents they replace. */
async function replaceInside(from: WorkspacePaths, target: string, output: string): Promise<void> {
  const inside = await lockWorkspaceFolder(join(target, INSIDE), output);
  try {
    await removeResult(inside);
    await moveFolder(from.result, inside);
    await replaceContents({ workspace: inside.folder, result: inside.result, target, output });
  } finally {
    await removeResult(inside).finally(inside.release);
  }
}

async function moveFolder(from: string, { result, list }: WorkspacePaths): Promise<void> {
  const paths: string[] = [];
  for await (const { path } of walkFolder(from)) paths.push(path);
  await addToList(list, paths);
  try {
    return await rename(from, result);
  } catch (error) {
    if (!hasCode(error, 'EXDEV')) return writing(result, () => Promise.reject(error));
  }
  for (const path of paths) await copySynced(join(from, path), join(result, path));
  for (const inside of new Set(paths.map((path) => dirname(path)).concat('.'))) await syncFolder(join(result, inside));
}

function copySynced(from: string, to: string): Promise<void> {
  return writing(to, async () => {
    await mkdir(dirname(to), { recursive: true });
    await copyFile(from, to);
    const file = await open(to, 'r+');
    await syncFile(file).finally(() => file.close());
  });
}
