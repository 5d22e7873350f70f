import type { Dirent } from 'node:fs';
import { lstat, mkdir, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { OptionError } from '../../errors.js';
import { createJournal, type Workspace, type WorkspaceRequest } from '../journal.js';
import { writing } from '../writing.js';
import { createEntryStore, ENTRY } from './entry-store.js';
import { createFileSink, syncFolder } from './file-sink.js';
import { isLocked, LOCK, lockFolder } from './folder-lock.js';
import { exists, resolveLinks } from './paths.js';
import { readLittleFile } from './read-little-file.js';

/** In a workspace: the folder that is being made, the one whose place it takes, and what the run is known by. */
const RESULT = 'result';
const REPLACED = 'replaced';
const RUN = 'run.json';
const RUN_SCHEMA = 'fang-prune-run/2';

/** A folder beside an output for what is not complete. */
export interface HeldWorkspace {
  readonly folder: string;
  /** Where the output is built, and where the one waits whose place it takes. */
  readonly result: string;
  readonly replaced: string;
  /** Lets other processes in; the folder goes when nothing is left in it. */
  release(): Promise<void>;
}

export const workspaceOf = (target: string): string => `${target}.partial`;

/**
 * Takes hold of the workspace of an output, and gives a folder its name back that a run was cut off while replacing.
 * @param target path of the output, links resolved
 * @param output as the user named it
 * @throws OptionError when another process holds it, or it has anything in it that no run wrote.
 */
export async function holdWorkspace(target: string, output: string): Promise<HeldWorkspace> {
  const folder = workspaceOf(target);
  const release = await enter(folder, output);
  try {
    await giveNameBack(target);
  } catch (error) {
    await release();
    throw error;
  }
  return { folder, result: join(folder, RESULT), replaced: join(folder, REPLACED), release };
}

/** A run that ends may take the folder away between two steps of one that begins. */
async function enter(folder: string, output: string, attempts = 3): Promise<() => Promise<void>> {
  await writing(folder, () => mkdir(folder, { recursive: true }));
  await checkOwn(folder);
  try {
    const unlock = await lockFolder(folder, output);
    return async () => {
      await unlock();
      await rmdir(folder).catch(() => undefined);
    };
  } catch (error) {
    if (attempts > 1 && !(await exists(folder))) return enter(folder, output, attempts - 1);
    await rmdir(folder).catch(() => undefined);
    throw error;
  }
}

/** Links and devices are no run's either: what is written or removed through them lies elsewhere. */
async function checkOwn(folder: string): Promise<void> {
  if (!(await lstat(folder)).isDirectory())
    throw new OptionError(
      `${folder} is a link, and a run keeps there what is not complete. Remove it, or choose another output.`,
    );
  const isOwn = (found: Dirent) =>
    [RESULT, REPLACED].includes(found.name)
      ? found.isDirectory()
      : found.isFile() && (found.name === RUN || found.name.startsWith(LOCK) || ENTRY.test(found.name));
  const stray = (await readdir(folder, { withFileTypes: true })).find((found) => !isOwn(found));
  if (stray === undefined) return;
  throw new OptionError(
    `${folder} is where a run keeps what is not complete, and holds ${stray.name}, which no run wrote. Move it away, or choose another output.`,
  );
}

/** Between two renames a run that is killed leaves neither folder under the output's name. */
export async function giveNameBack(target: string): Promise<void> {
  const replaced = join(workspaceOf(target), REPLACED);
  if (!(await exists(replaced)) || (await exists(target))) return;
  await writing(target, () => rename(replaced, target));
  await syncFolder(dirname(target));
  await rmdir(workspaceOf(target)).catch(() => undefined);
}

/** Whether a run was cut off while it replaced an output, and no other is at work there. */
export const isCutOff = async (target: string): Promise<boolean> =>
  (await exists(join(workspaceOf(target), REPLACED))) && !(await isLocked(workspaceOf(target)));

/**
 * @see Platform.openWorkspace
 * @param createSink makes the journal's files
 */
export async function openWorkspace(
  { output, key, resume }: WorkspaceRequest,
  createSink = createFileSink,
): Promise<Workspace> {
  const target = await resolveLinks(resolve(output));
  const { folder, release } = await holdWorkspace(target, output);
  const clear = async () => {
    const names = (await readdir(folder)).filter((name) => !name.startsWith(LOCK));
    await Promise.all(names.map((name) => rm(join(folder, name), { recursive: true, force: true })));
  };
  const hasEntries = async () => (await readdir(folder)).some((name) => ENTRY.test(name));
  try {
    const kept = await readRun(folder);
    const isSame = resume && key !== undefined && kept === key;
    const found = kept === undefined || !(await hasEntries()) ? 'nothing' : isSame ? 'same' : 'other';
    if (!isSame) {
      await clear();
      await writing(folder, () => writeFile(join(folder, RUN), `${JSON.stringify({ schema: RUN_SCHEMA, key })}\n`));
    }
    const entries = createEntryStore(folder, key ?? '', createSink);
    return {
      folder,
      found,
      journal: createJournal(entries),
      async close(isOver) {
        // The run has heard of a full disk, or needs nothing more of it.
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

/** @see Platform.keptIn */
export async function keptIn(output: string): Promise<boolean> {
  const target = await resolveLinks(resolve(output));
  if (await isCutOff(target)) await giveNameBack(target);
  return (await readRun(workspaceOf(target))) !== undefined;
}

async function readRun(folder: string): Promise<string | undefined> {
  try {
    const { schema, key } = JSON.parse(await readLittleFile(join(folder, RUN))) as Record<string, unknown>;
    return schema === RUN_SCHEMA && typeof key === 'string' ? key : undefined;
  } catch {
    return undefined;
  }
}
