import { randomBytes } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { OptionError } from '../../errors.js';
import { ignoreRejection } from '../../ignore-rejection.js';
import { writing } from '../writing.js';
import { readSmallFile } from './read-small-file.js';
import { syncFile } from './sync-file.js';
import { hasCode } from './system-error.js';

/** Begins the names of files that say who works in a folder. */
export const LOCK = 'run.lock';

/** A lock that is held. */
export interface FolderLock {
  /** @throws OptionError when another machine has taken the lock over, since this one gave no sign of life. */
  check(): Promise<void>;
  release(): Promise<void>;
}

/** Who holds a lock, or asks for it: the contents of a lock file. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Containers may have one host name, and numbers of processes of their own. */
  readonly pidNamespace?: string | undefined;
  /** When its process began, as the system counts: numbers of processes come again. */
  readonly began?: string | undefined;
  /** Descriptor of the lock file in its process: the system closes it with the worker thread that opened it. */
  readonly descriptor?: number | undefined;
}

/** A lock file of somebody else. */
export interface Competitor {
  readonly name: string;
  /** Undefined for one whose contents are not written yet. */
  readonly holder: Holder | undefined;
  /** Whether a call of this process made it. */
  readonly isOwn: boolean;
}

/** A lock file of this call. */
interface Claim {
  readonly folder: string;
  readonly name: string;
  readonly path: string;
  readonly file: FileHandle;
  readonly contents: Buffer;
  readonly holder: Holder;
  readonly mtimeMs: number;
}

/** How often a holder shows that it lives, for other machines; after how long it is taken for gone there. */
const SIGN_MS = 10_000;
const GONE_MS = 60_000;
/** A process whose starter was killed ends a moment later. */
const PATIENCE_MS = 5000;
const RETRY_MS = 100;
/** Calls that ask at the same time see each other within this time, and all but the first withdraw. */
const CONTEST_MS = 1000;
const CONTEST_RETRY_MS = 10;
/** A lock file gets its contents at once; one that is still empty was left by a process that ended in between. */
const EMPTY_MS = 5000;

/**
 * Keeps all others out of a folder: other processes, other threads, other calls of this thread.
 * @param output what is made there, for the message
 * @throws OptionError when another one holds it: at once for one of this process, else after some seconds.
 */
export async function lockFolder(folder: string, output: string): Promise<FolderLock> {
  const start = performance.now();
  for (;;) {
    const found = await tryLock(folder);
    if ('release' in found) return found;
    if (found.isOwn || performance.now() - start > PATIENCE_MS)
      throw new OptionError(
        `Another run writes ${output}: ${describeHolder(found)}. Wait until it has ended, or choose another output. ` +
          `If no run writes there, remove ${join(folder, found.name)}.`,
      );
    await setTimeout(RETRY_MS);
  }
}

function describeHolder({ holder, isOwn }: Competitor): string {
  if (isOwn) return 'another call in this process';
  return holder === undefined
    ? 'a process that has just begun'
    : `process ${holder.pid} on ${holder.host.slice(0, MOST_HOST_LETTERS)}`;
}

/** A lock file may say anything. */
const MOST_HOST_LETTERS = 100;

/**
 * The lock, or who else has it. Every caller first makes a file of its own, and then looks for those of others: of two, at least
 * the later one sees the other. This needs no operation that a file system may lack.
 */
export async function tryLock(folder: string): Promise<FolderLock | Competitor> {
  const claim = await makeClaim(folder);
  try {
    const start = performance.now();
    for (;;) {
      const competitors = await findCompetitors(claim);
      if (competitors.length === 0) return hold(claim);
      const older = competitors.find(({ name }) => name < claim.name);
      if (older !== undefined || performance.now() - start > CONTEST_MS) {
        await releaseClaim(claim);
        return older ?? competitors[0]!;
      }
      await setTimeout(CONTEST_RETRY_MS);
    }
  } catch (error) {
    await releaseClaim(claim);
    throw error;
  }
}

async function makeClaim(folder: string): Promise<Claim> {
  // Names sort by age.
  const time = Date.now().toString().padStart(15, '0');
  const name = `${LOCK}-${time}-${randomBytes(8).toString('hex')}`;
  const path = join(folder, name);
  const file = await writing(path, () => open(path, 'wx'));
  try {
    const [began, pidNamespace] = [await beganAt(process.pid), await ownPidNamespace()];
    const holder = { pid: process.pid, host: hostname(), pidNamespace, began, descriptor: file.fd };
    const contents = Buffer.from(JSON.stringify(holder));
    await writing(path, () => file.writeFile(contents));
    return { folder, name, path, file, contents, holder, mtimeMs: (await file.stat()).mtimeMs };
  } catch (error) {
    await file.close();
    await rm(path, { force: true });
    throw error;
  }
}

async function releaseClaim({ file, path }: Claim): Promise<void> {
  await file.close().catch(() => undefined);
  await rm(path, { force: true });
}

function hold(claim: Claim): FolderLock {
  const { file, path, contents } = claim;
  let sign = Promise.resolve();
  // What is written gets its time from the disk: clocks of machines differ.
  const show = async () => {
    await file.write(contents, 0, contents.byteLength, 0);
    await syncFile(file);
  };
  const signs = setInterval(() => {
    sign = ignoreRejection(sign.then(show).catch(() => undefined));
  }, SIGN_MS).unref();
  return {
    async check() {
      if (await isThere(path)) return;
      throw new OptionError(
        `${path} is gone: another machine considered this run ended, or the file was removed. Run it again when no other run writes there.`,
      );
    },
    async release() {
      clearInterval(signs);
      await sign;
      await releaseClaim(claim);
    },
  };
}

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

/** Others that live. Files of those that do not are removed: nothing waits for them. */
async function findCompetitors(claim: Claim): Promise<readonly Competitor[]> {
  const { folder } = claim;
  const names = (await readdir(folder)).filter((name) => name.startsWith(LOCK)).sort();
  if (!names.includes(claim.name)) throw new OptionError(`${claim.path} was removed. Run the same again.`);
  const competitors: Competitor[] = [];
  for (const name of names) {
    if (name === claim.name) continue;
    const path = join(folder, name);
    const holder = await readHolder(path);
    const rival = { name, holder, isOwn: holder !== undefined && isOwnProcess(holder, claim.holder) };
    if (await isAlive(rival, claim)) competitors.push(rival);
    else await writing(path, () => rm(path, { force: true }));
  }
  return competitors;
}

/** Undefined for what is no lock. */
async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const holder = JSON.parse(await readSmallFile(path)) as Holder;
    const { pid, host } = holder;
    return Number.isInteger(pid) && pid > 0 && typeof host === 'string' ? holder : undefined;
  } catch {
    return undefined;
  }
}

const isOwnMachine = ({ host, pidNamespace }: Holder, own: Holder): boolean =>
  host === own.host && (pidNamespace === undefined || pidNamespace === own.pidNamespace);

const isOwnProcess = (holder: Holder, own: Holder): boolean =>
  isOwnMachine(holder, own) && holder.pid === own.pid && holder.began === own.began;

async function isAlive({ name, holder, isOwn }: Competitor, { folder, holder: own, mtimeMs }: Claim): Promise<boolean> {
  const stats = await lstat(join(folder, name), { bigint: true }).catch(() => undefined);
  if (stats === undefined) return false;
  const age = mtimeMs - Number(stats.mtimeMs);
  if (holder === undefined) return stats.size === 0n && age < EMPTY_MS;
  if (isOwn) return isOpen(holder.descriptor, stats);
  if (!isOwnMachine(holder, own)) return age < GONE_MS;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
  return (await beganAt(holder.pid)) === holder.began;
}

/** Whether a descriptor of this process, of whichever thread, is of a file. */
function isOpen(descriptor: number | undefined, { dev, ino }: { readonly dev: bigint; readonly ino: bigint }): boolean {
  try {
    const found = fstatSync(descriptor!, { bigint: true });
    return found.dev === dev && found.ino === ino;
  } catch {
    return false;
  }
}

/** Undefined where the system does not tell, and for a process that has ended and waits to be noticed. */
async function beganAt(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name of the program stands in parentheses, and may hold anything.
  const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' || state === '' ? undefined : fields[18];
}

/** Undefined where there are none. */
const ownPidNamespace = (): Promise<string | undefined> => readlink('/proc/self/ns/pid').catch(() => undefined);
