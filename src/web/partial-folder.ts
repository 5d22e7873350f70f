import { writing } from '../runtime/writing.js';
import { randomName } from './random-name.js';
import { retryWhileLocked } from './retry-while-locked.js';
import type { WebFolder } from './web-folder.js';

/** A set of renames that are made together. Paths are relative to the page's folder. */
export interface Commit {
  /** Renames of new files, in order. */
  readonly moves: readonly (readonly [from: string, to: string])[];
  /** Old files to remove. */
  readonly removals: readonly string[];
}

/**
 * Prefix of partial folders at the top of a page's folder. Their writer holds a lock of the same name: without it, its
 * page was closed. They contain `files`, and `commit.json` once complete.
 */
const PARTIAL = '.partial-';

const COMMIT = 'commit.json';

/**
 * Writes files to a partial folder and renames them when all are complete. Browsers rename one file at a time: if the
 * page is closed in between, `sweep` does the rest.
 * @param run prefix of the folder's name
 * @param build Fills the folder whose path it gets, and returns the commit. If it fails nothing remains.
 */
export async function writeAtomically<T>(
  folder: WebFolder,
  run: string,
  build: (partialFiles: string) => Promise<readonly [T, Commit]>,
): Promise<T> {
  const partial = `${PARTIAL}${run}-${randomName()}`;
  return withLock(partial, async () => {
    const result = await fill(folder, partial, build).catch(async (error) => {
      await removeAll(folder, partial);
      throw error;
    });
    await finish(folder, partial);
    return result;
  });
}

async function fill<T>(
  folder: WebFolder,
  partial: string,
  build: (partialFiles: string) => Promise<readonly [T, Commit]>,
): Promise<T> {
  const [result, commit] = await build(`${partial}/files`);
  const sink = await folder.create(`${partial}/${COMMIT}`);
  await sink.write(new TextEncoder().encode(JSON.stringify(commit))).finally(() => sink.close());
  return result;
}

/** Completes or removes partial folders of ended runs. */
export async function sweep(folder: WebFolder): Promise<void> {
  for (const partial of await partialsOf(folder)) await unlessLocked(partial, () => finish(folder, partial));
}

/** Sweeps the partial folders of a run that was just terminated. */
export async function sweepAfter(folder: WebFolder, run: string): Promise<void> {
  const remaining = async () => (await partialsOf(folder)).filter((name) => name.startsWith(`${PARTIAL}${run}-`));
  await retryWhileLocked(async () => {
    for (const partial of await remaining()) await finish(folder, partial);
    if ((await remaining()).length > 0) throw new Error('the run wrote another file');
  });
}

/** Whether a name is that of a partial folder. */
export const isPartial = (name: string): boolean => name.startsWith(PARTIAL);

/** Applies a commit, or the rest of it. */
async function finish(folder: WebFolder, partial: string): Promise<void> {
  const source = await folder.open(`${partial}/${COMMIT}`);
  if (source !== undefined) {
    const text = new TextDecoder().decode(await source.read(0, source.byteLength));
    const { moves, removals } = JSON.parse(text) as Commit;
    for (const path of removals) await removeFile(folder, path);
    for (const [from, to] of moves)
      if ((await folder.kindOf(from)) !== undefined) await writing(to, () => folder.move(from, to));
  }
  await removeAll(folder, partial);
}

/** Removes a file, and folders that become empty. */
async function removeFile(folder: WebFolder, path: string): Promise<void> {
  await removeAll(folder, path);
  const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
  if (parent !== '' && (await folder.list(parent)).length === 0) await removeFile(folder, parent);
}

async function removeAll(folder: WebFolder, path: string): Promise<void> {
  if ((await folder.kindOf(path)) !== undefined) await folder.remove(path);
}

async function partialsOf(folder: WebFolder): Promise<readonly string[]> {
  return (await folder.list('')).map(({ name }) => name).filter(isPartial);
}

const lockOf = (partial: string): string => `fang-prune ${partial}`;

async function withLock<T>(partial: string, action: () => Promise<T>): Promise<T> {
  const { locks } = globalThis.navigator ?? {};
  return locks === undefined ? action() : locks.request(lockOf(partial), action);
}

/** Runs an action unless the partial folder is locked, or locks are not supported. */
async function unlessLocked(partial: string, action: () => Promise<void>): Promise<void> {
  await globalThis.navigator?.locks?.request(lockOf(partial), { ifAvailable: true }, (lock) => lock && action());
}
