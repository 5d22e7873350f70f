import type { ScratchFile } from './tensor-store.js';

/** Journal of checkpoints, from which the same run can resume. */
export interface Journal {
  /** Whether there is a complete checkpoint of a name. */
  has(name: string): Promise<boolean>;
  /** Parts of a checkpoint; undefined if there is no complete one. */
  read(name: string): Promise<AsyncIterable<unknown> | undefined>;
  /**
   * Saves parts under a name and replaces earlier ones atomically. When it returns they are queued, and are written in
   * order.
   * @param parts structured-cloneable data: numbers, strings, typed arrays, arrays, maps and objects; a part may change
   *   when the next one is requested
   * @param endsStage see `shouldCheckpoint`
   * @throws OptionError when it cannot be written.
   */
  write(name: string, parts: Parts, endsStage?: boolean): Promise<void>;
  /**
   * Whether a write of this size keeps the total time of checkpoints within its limit.
   * @param endsStage whether it saves an entire stage: such writes have their own, larger limit. Default false.
   */
  shouldCheckpoint(byteLength: number, endsStage?: boolean): boolean;
  /** Waits until all writes are on disk. @throws OptionError when writing fails */
  settle(): Promise<void>;
  /** This journal with a name prefix. */
  within(scope: string): Journal;
  /** Deletes all checkpoints of a scope. */
  drop(scope: string): Promise<void>;
}

export type Parts = Iterable<unknown> | AsyncIterable<unknown>;

/** Storage of a journal's entries. */
export interface EntryStore extends Pick<Journal, 'has' | 'read' | 'settle' | 'drop'> {
  /** @returns bytes of the entry */
  write(name: string, parts: Parts): Promise<number>;
}

/** Limits of the time of all writes, as a fraction of a run's time; side effects cost about as much again. */
const MAX_RUN_FRACTION = { within: 1 / 40, endsStage: 1 / 20 };
/** Assumed cost of a write before one was timed, in ms: each, and per byte. */
const FIRST_COST = { each: 20, perByte: 1 / 150_000 };
/** Smaller writes measure the cost per write, larger ones the cost per byte. */
const LARGE_BYTES = 2 ** 20;

/** @param now a clock, in ms */
export function createJournal({ write, ...store }: EntryStore, now = () => performance.now()): Journal {
  const began = now();
  const spent = { within: 0, endsStage: 0 };
  const cost = { ...FIRST_COST };
  const journal: Journal = {
    ...store,
    async write(name, parts, endsStage = false) {
      const start = now();
      const byteLength = await write(name, parts);
      const ms = now() - start;
      spent[endsStage ? 'endsStage' : 'within'] += ms;
      if (byteLength > LARGE_BYTES) cost.perByte = ms / byteLength;
      else cost.each = ms;
    },
    shouldCheckpoint(byteLength, endsStage = false) {
      const kind = endsStage ? 'endsStage' : 'within';
      return spent[kind] + cost.each + byteLength * cost.perByte <= MAX_RUN_FRACTION[kind] * (now() - began);
    },
    within: (scope) => scoped(journal, scope),
  };
  return journal;
}

function scoped(journal: Journal, scope: string): Journal {
  const own: Journal = {
    has: (name) => journal.has(`${scope}.${name}`),
    read: (name) => journal.read(`${scope}.${name}`),
    write: (name, parts, endsStage) => journal.write(`${scope}.${name}`, parts, endsStage),
    shouldCheckpoint: journal.shouldCheckpoint,
    settle: journal.settle,
    within: (inner) => scoped(own, inner),
    drop: (inner) => journal.drop(`${scope}.${inner}`),
  };
  return own;
}

/** Reads an entry with a single part; undefined if incomplete. */
export async function readCheckpoint<T>(journal: Journal | undefined, name: string): Promise<T | undefined> {
  for await (const part of (await journal?.read(name)) ?? []) return part as T;
  return undefined;
}

/** A checkpoint under one name. */
export interface Checkpoint<T> {
  /** Approximate bytes. Absent: it is always saved. */
  bytes?(value: T): number;
  make(): Promise<T>;
}

/** Reads a checkpoint of an earlier run, or computes the value and saves it if that is worth the time. */
export async function checkpoint<T>(
  journal: Journal | undefined,
  name: string,
  { bytes, make }: Checkpoint<T>,
): Promise<T> {
  const saved = await readCheckpoint<T>(journal, name);
  if (saved !== undefined) return saved;
  const value = await make();
  const endsStage = bytes !== undefined;
  if (bytes === undefined || journal?.shouldCheckpoint(bytes(value), endsStage))
    await journal?.write(name, [value], endsStage);
  return value;
}

/** A folder next to the output for incomplete results and checkpoints. */
export interface Workspace {
  readonly journal: Journal;
  /** `same`: files of the same run, from which it resumes; `other`: those of another run, which were removed. */
  readonly found: 'nothing' | 'same' | 'other';
  /** Name in messages. */
  readonly folder: string;
  /** Path of its output, with links resolved. */
  readonly target: string;
  /** @throws OptionError when another machine has taken over the lock after missing heartbeats. */
  check(): Promise<void>;
  /** Makes scratch space next to the output, see `Platform.createScratch`. Absent: the platform's default place. */
  createScratch?(): Promise<ScratchFile>;
  /** Releases the folder, and deletes it unless a run can resume from checkpoints in it. */
  close(isOver: boolean): Promise<void>;
}

export interface WorkspaceRequest {
  /** Output folder or file of the run; the workspace is next to it. */
  readonly output: string;
  /** Run key, equal for runs with the same result; undefined for runs that cannot be resumed. */
  readonly key: string | undefined;
  /** Whether to resume from checkpoints of the same run. */
  readonly resume: boolean;
}
