import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { OptionError } from '../../errors.js';
import { writing } from '../writing.js';
import { readLittleFile } from './read-little-file.js';
import { hasCode } from './system-error.js';

/** Name of the file that says who works in a folder. */
export const LOCK = 'run.lock';

/** Who holds a lock. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When its process began, as the system counts: numbers of processes come again. */
  readonly began: string | undefined;
}

/** How often a holder shows that it lives, for other machines; after how long it is taken for gone there. */
const SIGN_MS = 10_000;
const GONE_MS = 60_000;
/** A process whose starter was killed ends a moment later. */
const PATIENCE_MS = 5000;

/** Folders that this process holds, and how often. */
const held = new Map<string, { count: number; readonly signs: NodeJS.Timeout }>();

/**
 * Keeps other processes out of a folder; within one process it may be taken several times.
 * @returns what gives it back.
 * @throws OptionError when another process holds it.
 */
export async function lockFolder(folder: string, output: string): Promise<() => Promise<void>> {
  const path = join(folder, LOCK);
  const known = held.get(path);
  if (known !== undefined) known.count += 1;
  else await take(path, output);
  return () => giveBack(path);
}

/** Whether a process holds a folder. */
export async function isLocked(folder: string): Promise<boolean> {
  const path = join(folder, LOCK);
  const holder = await readHolder(path);
  return holder !== undefined && (await isAlive(path, holder));
}

async function take(path: string, output: string): Promise<void> {
  const own = `${path}-${process.pid}`;
  const holder: Holder = { pid: process.pid, host: hostname(), began: await beganAt(process.pid) };
  try {
    await writing(path, () => writeFile(own, JSON.stringify(holder)));
    await linkPatiently(own, path, output);
  } finally {
    await rm(own, { force: true });
  }
  const sign = () => void utimes(path, new Date(), new Date()).catch(() => undefined);
  held.set(path, { count: 1, signs: setInterval(sign, SIGN_MS).unref() });
}

async function linkPatiently(own: string, path: string, output: string): Promise<void> {
  const start = performance.now();
  for (;;) {
    const isTaken = await writing(path, () => link(own, path)).then(
      () => false,
      (error: unknown) => {
        if (hasCode((error as Error).cause, 'EEXIST')) return true;
        throw error;
      },
    );
    if (!isTaken) return;
    const holder = await readHolder(path);
    if (holder === undefined || !(await isAlive(path, holder))) await removeStale(path, holder);
    else if (performance.now() - start > PATIENCE_MS)
      throw new OptionError(
        `Another run writes ${output}: process ${holder.pid} on ${holder.host}. Wait until it has ended, or choose another output.`,
      );
    else await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Another process may have done the same, and hold the lock by now: then it gets it back. */
async function removeStale(path: string, stale: Holder | undefined): Promise<void> {
  const aside = `${path}-${process.pid}-stale`;
  await rename(path, aside).catch(() => undefined);
  const found = await readHolder(aside);
  if (found !== undefined && (found.pid !== stale?.pid || found.began !== stale?.began || found.host !== stale?.host))
    await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

async function giveBack(path: string): Promise<void> {
  const found = held.get(path);
  if (found === undefined) return;
  found.count -= 1;
  if (found.count > 0) return;
  clearInterval(found.signs);
  held.delete(path);
  await rm(path, { force: true });
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const { pid, host, began } = JSON.parse(await readLittleFile(path)) as Holder;
    return Number.isInteger(pid) && pid > 0 && typeof host === 'string' ? { pid, host, began } : undefined;
  } catch {
    return undefined;
  }
}

async function isAlive(path: string, { pid, host, began }: Holder): Promise<boolean> {
  if (host !== hostname()) {
    const stats = await stat(path).catch(() => undefined);
    return stats !== undefined && Date.now() - stats.mtimeMs < GONE_MS;
  }
  try {
    process.kill(pid, 0);
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
  return (await beganAt(pid)) === began;
}

/** Undefined where the system does not tell, and for a process that has ended and waits to be noticed. */
async function beganAt(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name of the program stands in parentheses, and may hold anything.
  const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' || state === '' ? undefined : fields[18];
}
