import { randomUUID } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { lstat, mkdir, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { OptionError } from '../errors.js';
import { MANIFEST } from '../runtime/folder-manifest.js';
import { createJournal, type Workspace, type WorkspaceRequest } from '../runtime/journal.js';
import { writing } from '../runtime/writing.js';
import { readList } from './built-files.js';
import { createEntryStore, ENTRY } from './entry-store.js';
import { createFileSink } from './file-sink.js';
import { type FolderLock, LOCK, lockFolder } from './folder-lock.js';
import { checkOwn, readListing, removeListed, removeOwn, walkFolder } from './own-folder.js';
import { exists, resolveLinks } from './paths.js';
import { MAX_BYTES, readSmallFile } from './read-small-file.js';
import { finishReplacing, REPLACING, REPLACING_NEW } from './replace-contents.js';
import { createScratchFile } from './spill-file.js';
import { syncFolder } from './sync-file.js';
import { hasCode } from './system-error.js';
import { INSIDE, partialPathOf, workspacePath } from './workspace-path.js';

/** Parts of a workspace: the folder under construction with its list, the folder that it replaces, and the run's key. */
const RESULT = 'result';
const RESULT_LIST = 'result.list';
const REPLACED = 'replaced';
const RUN = 'run.json';
/** Suffixes of scratch files, which remain after a crash on systems that cannot unlink open files. */
const SCRATCH = '.scratch';
const RUN_SCHEMA = 'fang-prune-run/2';

/** Paths of a workspace. */
export interface WorkspacePaths {
  readonly folder: string;
  /** Folder under construction, and its list file. */
  readonly result: string;
  readonly list: string;
  /** Path of the folder that is replaced. */
  readonly replaced: string;
}

/** A locked workspace. */
export interface LockedWorkspace extends WorkspacePaths {
  /** @see Workspace.check */
  check(): Promise<void>;
  /** Releases the lock; an empty workspace is removed. */
  release(): Promise<void>;
}

export const pathsIn = (folder: string): WorkspacePaths => ({
  folder,
  result: join(folder, RESULT),
  list: join(folder, RESULT_LIST),
  replaced: join(folder, REPLACED),
});

/**
 * Locks the workspace of an output, and completes an interrupted replacement.
 * @param target path of the output, links resolved
 * @param output path as given
 * @throws OptionError when another run holds it, or it contains files that no run wrote.
 */
export async function lockWorkspace(target: string, output: string): Promise<LockedWorkspace> {
  await recover(target, output);
  return lockWorkspaceFolder(await workspacePath(target), output);
}

/** @param folder the workspace */
export async function lockWorkspaceFolder(folder: string, output: string): Promise<LockedWorkspace> {
  const lock = await enter(folder, output);
  const release = () => leave(folder, lock);
  const places = pathsIn(folder);
  try {
    await checkRemains(places);
  } catch (error) {
    await release();
    throw error;
  }
  return { ...places, check: lock.check, release };
}

/** Retries, since an ending run may remove the folder in between. */
async function enter(folder: string, output: string, attempts = 5): Promise<FolderLock> {
  try {
    await writing(folder, () => mkdir(folder, { recursive: true }));
    await checkParts(folder);
    return await lockFolder(folder, output);
  } catch (error) {
    const wasRemoved = hasCode(error, 'ENOENT') || hasCode((error as Error).cause, 'ENOENT');
    if (wasRemoved && attempts > 1) return enter(folder, output, attempts - 1);
    await rmdir(folder).catch(() => undefined);
    throw error;
  }
}

async function leave(folder: string, lock: FolderLock): Promise<void> {
  await lock.release();
  await rmdir(folder).catch(() => undefined);
}

/** Refuses files that no run wrote, links and devices included. */
async function checkParts(folder: string): Promise<void> {
  if (!(await lstat(folder)).isDirectory())
    throw new OptionError(
      `${folder} is a link, but must be a folder for unfinished files of the run. Remove it, or choose another output.`,
    );
  for (const found of await readdir(folder, { withFileTypes: true }))
    if (!(await isPart(folder, found))) throw unknownFile(folder, found.name);
}

async function isPart(folder: string, found: Dirent): Promise<boolean> {
  const { name } = found;
  if ([RESULT, REPLACED].includes(name)) return found.isDirectory();
  if (!found.isFile()) return false;
  if (name.startsWith(LOCK)) return ((await lstat(join(folder, name)).catch(() => undefined))?.size ?? 0) <= MAX_BYTES;
  return [RUN, RESULT_LIST, REPLACING, REPLACING_NEW].includes(name) || ENTRY.test(name) || name.endsWith(SCRATCH);
}

/** Checks for user files in folders of an interrupted run. */
async function checkRemains({ folder, result, list, replaced }: WorkspacePaths): Promise<void> {
  if (await exists(result)) {
    const listed = await readList(list);
    for await (const { path } of walkFolder(result))
      if (!listed.has(path) && !path.endsWith('/')) throw unknownFile(folder, join(RESULT, path));
  }
  if (await exists(replaced)) await checkOwn(replaced, replaced);
}

const unknownFile = (folder: string, name: string): OptionError =>
  new OptionError(
    `${folder} is the folder of a run's unfinished files, and contains ${name}, which no run wrote. Move it away, or choose another output.`,
  );

/** Removes an interrupted result, except during replacement; unlisted files remain. */
export async function removeResult({ folder, result, list }: WorkspacePaths): Promise<void> {
  if (await exists(join(folder, REPLACING))) return;
  await rm(join(folder, REPLACING_NEW), { force: true });
  const listed = await readList(list);
  await removeListed(result, (path) => listed.has(path));
  if (!(await exists(result))) await rm(list, { force: true });
}

/**
 * Recovers from an interrupted replacement: restores the old folder's name, or moves the new files.
 * @throws OptionError when another run is active there.
 */
export async function recover(target: string, output: string): Promise<void> {
  const inside = join(target, INSIDE);
  if (await exists(join(inside, REPLACING)))
    await withLock(inside, output, async () => {
      const places = pathsIn(inside);
      await finishReplacing({ workspace: inside, result: places.result, target, output });
      await removeResult(places);
    });
  const partial = partialPathOf(target);
  // Of a run that was interrupted before it replaced anything.
  if ((await exists(inside)) && (await exists(partial)))
    await withLock(inside, output, () => removeResult(pathsIn(inside)));
  const replaced = join(partial, REPLACED);
  if (!(await exists(replaced))) return;
  if (await exists(target)) return checkReplaced(target, { replaced, output });
  await withLock(partial, output, async () => {
    // Another process may have recovered it in the meantime.
    if (!(await exists(replaced)) || (await exists(target))) return;
    await writing(target, () => rename(replaced, target));
    await syncFolder(dirname(target));
  });
}

/** Checks that the new output is complete if the old one was not removed before a crash. */
async function checkReplaced(
  target: string,
  { replaced, output }: { readonly replaced: string; readonly output: string },
): Promise<void> {
  if ((await readListing(join(target, MANIFEST))) !== undefined) return;
  throw new OptionError(
    `${replaced} is the earlier ${output}, saved by an interrupted run, and ${output} was written again since. Move one of them away.`,
  );
}

async function withLock(folder: string, output: string, action: () => Promise<void>): Promise<void> {
  const lock = await enter(folder, output);
  try {
    await action();
  } finally {
    await leave(folder, lock);
  }
}

/**
 * @see Platform.openWorkspace
 * @param createSink creates the journal's files
 */
export async function openWorkspace(
  { output, key, resume }: WorkspaceRequest,
  createSink = createFileSink,
): Promise<Workspace> {
  const target = await resolveLinks(resolve(output));
  const workspace = await lockWorkspace(target, output);
  const { folder, check, release } = workspace;
  const clear = async () => {
    await removeResult(workspace);
    await removeOwn(workspace.replaced);
    const names = (await readdir(folder)).filter((name) => name === RUN || ENTRY.test(name));
    await Promise.all(names.map((name) => rm(join(folder, name), { force: true })));
  };
  const hasEntries = async () => (await readdir(folder)).some((name) => ENTRY.test(name));
  try {
    await removeScratch(folder);
    const savedKey = await readRun(folder);
    const isSame = resume && key !== undefined && savedKey === key;
    const found = savedKey === undefined || !(await hasEntries()) ? 'nothing' : isSame ? 'same' : 'other';
    if (!isSame) {
      await clear();
      await writing(folder, () => writeFile(join(folder, RUN), `${JSON.stringify({ schema: RUN_SCHEMA, key })}\n`));
    }
    const entries = createEntryStore(folder, key ?? '', createSink);
    return {
      folder,
      target,
      found,
      journal: createJournal(entries),
      check,
      createScratch: () => createScratchFile(join(folder, `${randomUUID()}${SCRATCH}`)),
      async close(isOver) {
        // The run has already reported write errors, or does not need them.
        await entries.settle().catch(() => undefined);
        if (isOver || key === undefined || !(await hasEntries())) await clear();
        await release();
      },
    };
  } catch (error) {
    await release();
    throw error;
  }
}

async function removeScratch(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(SCRATCH));
  await Promise.all(names.map((name) => rm(join(folder, name), { force: true })));
}

/** Workspace of an output, if an interrupted run may have left checkpoints in it. */
export async function findUnfinishedRun(output: string): Promise<string | undefined> {
  const target = await resolveLinks(resolve(output));
  await recover(target, output);
  const folder = await workspacePath(target);
  if ((await readRun(folder)) === undefined) return undefined;
  return folder === partialPathOf(target) ? partialPathOf(output) : join(output, INSIDE);
}

/** Whether a folder of outputs contains any file of results or of unfinished runs. */
export async function hasFiles(folder: string): Promise<boolean> {
  if (!(await exists(folder))) return false;
  for await (const { path } of walkFolder(folder)) if (!path.endsWith('/')) return true;
  return false;
}

/** @see Platform.hasUnfinishedRun */
export const hasUnfinishedRun = async (output: string): Promise<boolean> =>
  (await findUnfinishedRun(output)) !== undefined;

async function readRun(folder: string): Promise<string | undefined> {
  try {
    const { schema, key } = JSON.parse(await readSmallFile(join(folder, RUN))) as Record<string, unknown>;
    return schema === RUN_SCHEMA && typeof key === 'string' ? key : undefined;
  } catch {
    return undefined;
  }
}
