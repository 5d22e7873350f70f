import { randomBytes } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { OptionError } from '../errors.js';
import { ignoreRejection } from '../ignore-rejection.js';
import { writing } from '../runtime/writing.js';
import { exists } from './paths.js';
import { readSmallFile } from './read-small-file.js';
import { syncFile } from './sync-file.js';
import { hasCode } from './system-error.js';

/** Prefix of lock files. */
export const LOCK = 'run.lock';

/** An acquired lock. */
export interface FolderLock {
  /** @throws OptionError when another machine has taken over the lock after missing heartbeats. */
  check(): Promise<void>;
  release(): Promise<void>;
}

/** Contents of a lock file: the process that holds or requests the lock. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** PID namespace: containers may share a host name but not process ids. */
  readonly pidNamespace?: string | undefined;
  /** Start time of its process, since process ids are reused. */
  readonly began?: string | undefined;
  /** Descriptor of the lock file in its process; it is closed when its worker thread ends. */
  readonly descriptor?: number | undefined;
}

/** A lock file of another holder. */
export interface Competitor {
  readonly name: string;
  /** Undefined if its contents are not written yet. */
  readonly holder: Holder | undefined;
  /** Whether it belongs to this process. */
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

/** Interval of heartbeats, and age after which other machines consider a holder dead. */
const HEARTBEAT_MS = 10_000;
const STALE_MS = 60_000;
/** Time to wait for a process whose parent was killed. */
const GRACE_PERIOD_MS = 5000;
const RETRY_MS = 100;
/** Within this time concurrent requests see each other, and all but the first withdraw. */
const CONTEST_MS = 1000;
const CONTEST_RETRY_MS = 10;
/** Age after which an empty lock file counts as abandoned. */
const EMPTY_MS = 5000;

/**
 * Locks a folder against other processes, threads and calls.
 * @param output output name for messages
 * @throws OptionError when it is locked: at once by this process, else after some seconds.
 */
export async function lockFolder(folder: string, output: string): Promise<FolderLock> {
  const start = performance.now();
  for (;;) {
    const found = await tryLock(folder);
    if ('release' in found) return found;
    if (found.isOwn || performance.now() - start > GRACE_PERIOD_MS)
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
    : `process ${holder.pid} on ${holder.host.slice(0, MAX_HOST_LETTERS)}`;
}

/** Longest quoted host name, since lock files are untrusted. */
const MAX_HOST_LETTERS = 100;

/**
 * Returns the lock, or its holder. Every caller first creates its own file and then lists others': of two callers, at
 * least the later one sees the other. It needs only basic file operations.
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
  let heartbeat = Promise.resolve();
  // Modification times come from the file system, since clocks differ.
  const beat = async () => {
    await file.write(contents, 0, contents.byteLength, 0);
    await syncFile(file);
  };
  const timer = setInterval(() => {
    heartbeat = ignoreRejection(heartbeat.then(beat).catch(() => undefined));
  }, HEARTBEAT_MS).unref();
  return {
    async check() {
      if (await exists(path)) return;
      throw new OptionError(
        `${path} is gone: another machine considered this run ended, or the file was removed. Run it again when no other run writes there.`,
      );
    },
    async release() {
      clearInterval(timer);
      await heartbeat;
      await releaseClaim(claim);
    },
  };
}

/** Live competitors; lock files of dead ones are removed. */
async function findCompetitors(claim: Claim): Promise<readonly Competitor[]> {
  const { folder } = claim;
  const names = (await readdir(folder)).filter((name) => name.startsWith(LOCK)).sort();
  if (!names.includes(claim.name)) throw new OptionError(`${claim.path} was removed. Run the same again.`);
  const competitors: Competitor[] = [];
  for (const name of names) {
    if (name === claim.name) continue;
    const path = join(folder, name);
    const holder = await readHolder(path);
    const competitor = { name, holder, isOwn: holder !== undefined && isOwnProcess(holder, claim.holder) };
    if (await isAlive(competitor, claim)) competitors.push(competitor);
    else await writing(path, () => rm(path, { force: true }));
  }
  return competitors;
}

/** Reads a lock file; undefined if invalid. */
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
  if (!isOwnMachine(holder, own)) return age < STALE_MS;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
  return (await beganAt(holder.pid)) === holder.began;
}

/** Whether a descriptor of this process, in any thread, refers to a file. */
function isOpen(descriptor: number | undefined, { dev, ino }: { readonly dev: bigint; readonly ino: bigint }): boolean {
  try {
    const found = fstatSync(descriptor!, { bigint: true });
    return found.dev === dev && found.ino === ino;
  } catch {
    return false;
  }
}

/** Start time of a process; undefined if unknown, or for a zombie process. */
async function beganAt(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The program's name is in parentheses, and may contain any character.
  const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' || state === '' ? undefined : fields[18];
}

/** PID namespace of this process; undefined if the system has none. */
const ownPidNamespace = (): Promise<string | undefined> => readlink('/proc/self/ns/pid').catch(() => undefined);
