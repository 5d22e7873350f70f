import type { ScratchFile } from '../runtime/tensor-store.js';

/** Checkpoints of a long run, from which the same run can resume. */
export interface Journal {
  /** Whether there is a complete checkpoint of a name. */
  has(name: string): Promise<boolean>;
  /** The parts of a checkpoint; undefined where there is no complete one. */
  read(name: string): Promise<AsyncIterable<unknown> | undefined>;
  /**
   * Saves parts under a name and replaces the earlier ones: all of them, or none. When this returns they are queued; they reach the
   * disk a little later, in the order of the writes.
   * @param parts plain data, as structured clones take it: numbers, texts, typed arrays, lists, maps and objects of them; one may
   *   change when the next one is asked for
   * @param endsStage see `shouldCheckpoint`
   * @throws OptionError when it cannot be written.
   */
  write(name: string, parts: Parts, endsStage?: boolean): Promise<void>;
  /**
   * Whether one more write, of so many bytes, keeps the time of all writes short relative to the run's.
   * @param endsStage what is written saves an entire stage: such writes are counted by themselves, and may cost more. Default false.
   */
  shouldCheckpoint(byteLength: number, endsStage?: boolean): boolean;
  /** Waits until the disk has all that was written. @throws OptionError when it cannot take it. */
  settle(): Promise<void>;
  /** This journal with a prefix before all names. */
  within(scope: string): Journal;
  /** Deletes all checkpoints of a scope. */
  drop(scope: string): Promise<void>;
}

export type Parts = Iterable<unknown> | AsyncIterable<unknown>;

/** Where a journal's entries lie. */
export interface EntryStore extends Pick<Journal, 'has' | 'read' | 'settle' | 'drop'> {
  /** @returns bytes that the entry takes. */
  write(name: string, parts: Parts): Promise<number>;
}

/** Limits of all writes, as a fraction of a run's time; their side effects cost about as much again. */
const MOST_OF_RUN = { within: 1 / 40, endsStage: 1 / 20 };
/** Assumed cost of a write before one was timed, in ms: each, and per byte. */
const FIRST_COST = { each: 20, perByte: 1 / 150_000 };
/** Smaller writes tell what each one costs, larger ones what a byte does. */
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
      return spent[kind] + cost.each + byteLength * cost.perByte <= MOST_OF_RUN[kind] * (now() - began);
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

/** The one part of an entry; undefined where there is no complete one. */
export async function readCheckpoint<T>(journal: Journal | undefined, name: string): Promise<T | undefined> {
  for await (const part of (await journal?.read(name)) ?? []) return part as T;
  return undefined;
}

/** A checkpoint under one name. */
export interface Checkpoint<T> {
  /** Roughly. Absent: it is saved whatever it takes. */
  bytes?(made: T): number;
  make(): Promise<T>;
}

/** A checkpoint of an earlier run; otherwise it is made, and saved where that is worth the time. */
export async function checkpoint<T>(
  journal: Journal | undefined,
  name: string,
  { bytes, make }: Checkpoint<T>,
): Promise<T> {
  const saved = await readCheckpoint<T>(journal, name);
  if (saved !== undefined) return saved;
  const made = await make();
  const endsStage = bytes !== undefined;
  if (bytes === undefined || journal?.shouldCheckpoint(bytes(made), endsStage))
    await journal?.write(name, [made], endsStage);
  return made;
}

/** A folder next to the output for incomplete results and checkpoints. */
export interface Workspace {
  readonly journal: Journal;
  /** Nothing was there; files of the same run, which it resumes from; or those of another run, which were removed. */
  readonly found: 'nothing' | 'same' | 'other';
  /** As messages name it. */
  readonly folder: string;
  /** Path of the output that it is of, links resolved. */
  readonly target: string;
  /** @throws OptionError when another machine has taken it over, since this one's heartbeat stopped. */
  check(): Promise<void>;
  /** Makes scratch space next to the output, see `Platform.createScratch`. Absent: it lies where the platform has it. */
  createScratch?(): Promise<ScratchFile>;
  /** Releases the folder, and deletes it unless a run can resume from checkpoints in it. */
  close(isOver: boolean): Promise<void>;
}

export interface WorkspaceRequest {
  /** Folder or file that the run is to make; the workspace lies next to it. */
  readonly output: string;
  /** Equal for two runs with the same result; undefined for a run that no other can resume. */
  readonly key: string | undefined;
  /** Whether to resume from what the same run left. */
  readonly resume: boolean;
}
