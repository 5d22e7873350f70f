import { writing } from '../writing.js';
import { randomName } from './random-name.js';
import { retryWhileLocked } from './retry-while-locked.js';
import type { WebFolder } from './web-folder.js';

/** Files that take their names together. Paths are relative to the folder of the page. */
export interface Commit {
  /** Where files made aside go, in the order in which they do. */
  readonly moves: readonly (readonly [from: string, to: string])[];
  /** Files that are there until then, and whose place nothing takes. */
  readonly removals: readonly string[];
}

/**
 * Folders of what is not complete, at the top of a page's folder. Who fills one holds a lock of its name: without it, its page was
 * closed. Inside are `files`, and from when they are complete `commit.json`.
 */
const PARTIAL = '.partial-';

const COMMIT = 'commit.json';

/**
 * Makes files aside that appear under their names when all of them are complete. Browsers rename one file at a time: a page that is
 * closed in between leaves the rest to `sweep`.
 * @param run begins the name of the folder
 * @param build Fills the folder whose path it gets, and says what is to become of it. When it fails nothing is left.
 */
export async function writeAtomically<T>(
  folder: WebFolder,
  run: string,
  build: (aside: string) => Promise<readonly [T, Commit]>,
): Promise<T> {
  const partial = `${PARTIAL}${run}-${randomName()}`;
  return holding(partial, async () => {
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
  build: (aside: string) => Promise<readonly [T, Commit]>,
): Promise<T> {
  const [result, commit] = await build(`${partial}/files`);
  const sink = await folder.create(`${partial}/${COMMIT}`);
  await sink.write(new TextEncoder().encode(JSON.stringify(commit))).finally(() => sink.close());
  return result;
}

/** Does what runs left undone that have ended: what was complete takes its names, what was not is removed. */
export async function sweep(folder: WebFolder): Promise<void> {
  for (const partial of await partialsOf(folder)) await unlessLocked(partial, () => finish(folder, partial));
}

/** Sweeps the files of one run that was just terminated. */
export async function sweepAfter(folder: WebFolder, run: string): Promise<void> {
  const left = async () => (await partialsOf(folder)).filter((name) => name.startsWith(`${PARTIAL}${run}-`));
  await retryWhileLocked(async () => {
    for (const partial of await left()) await finish(folder, partial);
    if ((await left()).length > 0) throw new Error('something came in meanwhile');
  });
}

/** Whether a name is that of a folder which is not complete. */
export const isPartial = (name: string): boolean => name.startsWith(PARTIAL);

/** Does what the commit says, or the rest of it. */
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

/** Removes a file, and the folders that nothing is in any more. */
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

async function holding<T>(partial: string, action: () => Promise<T>): Promise<T> {
  const { locks } = globalThis.navigator ?? {};
  return locks === undefined ? action() : locks.request(lockOf(partial), action);
}

/** Nothing where someone holds the lock, or where there are no locks that would tell. */
async function unlessLocked(partial: string, action: () => Promise<void>): Promise<void> {
  await globalThis.navigator?.locks?.request(lockOf(partial), { ifAvailable: true }, (lock) => lock && action());
}
