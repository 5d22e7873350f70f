import { createStore, delMany, get, keys, set, type UseStore } from 'idb-keyval';
import { createJournal, type EntryStore, type Workspace, type WorkspaceRequest } from '../runtime/journal.js';
import { writing } from '../runtime/writing.js';
import { lockOutput } from './lock-output.js';
import { randomName } from './random-name.js';

/** The origin's database of checkpoints of interrupted runs. */
const DATABASE = 'fang-prune';

/** Database key: output, kind and name. */
type Key = [output: string, kind: 'run' | 'entry' | 'part', ...name: (string | number)[]];

/** An entry: the keys of its parts. */
interface StoredEntry {
  readonly id: string;
  readonly count: number;
}

const openDatabase = (): UseStore => createStore(DATABASE, 'runs');

const keysOf = async (database: UseStore, output: string): Promise<Key[]> =>
  (await keys<Key>(database)).filter(([of]) => of === output);

/**
 * Stores the journal of an output in the origin's database, under a lock that is released with the page.
 * @see Platform.openWorkspace
 */
export async function openWorkspace({ output, key, resume }: WorkspaceRequest): Promise<Workspace> {
  const folder = `the journal of ${output} in this browser`;
  const release = await lockOutput(output);
  try {
    const database = openDatabase();
    const clear = async () => delMany(await keysOf(database, output), database);
    const hasEntries = async () => (await keysOf(database, output)).some(([, kind]) => kind === 'entry');
    const savedKey = await readRun(database, output);
    const isSame = resume && key !== undefined && savedKey === key;
    const found = savedKey === undefined || !(await hasEntries()) ? 'nothing' : isSame ? 'same' : 'other';
    if (!isSame) {
      await clear();
      await writing(folder, () => set(runOf(output), key, database));
    }
    return {
      folder,
      target: output,
      check: async () => undefined,
      found,
      journal: createJournal(createEntryStore(database, output, folder)),
      async close(isOver) {
        try {
          if (isOver || key === undefined || !(await hasEntries())) await clear();
        } finally {
          release();
        }
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** @see Platform.hasUnfinishedRun */
export const hasUnfinishedRun = async (output: string): Promise<boolean> =>
  (await readRun(openDatabase(), output)) !== undefined;

const runOf = (output: string): Key => [output, 'run'];

const readRun = (database: UseStore, output: string) => get<string>(runOf(output), database);

/** Stores parts first and then their entry, so that existing entries are complete. */
function createEntryStore(database: UseStore, output: string, folder: string): EntryStore {
  const entryOf = (name: string): Key => [output, 'entry', name];
  const partOf = (id: string, at: number): Key => [output, 'part', id, at];
  const partsOf = ({ id, count }: StoredEntry) => Array.from({ length: count }, (_, at) => partOf(id, at));
  const find = (name: string) => get<StoredEntry>(entryOf(name), database);
  return {
    has: async (name) => (await find(name)) !== undefined,
    async read(name) {
      const entry = await find(name);
      return entry && readParts(database, partsOf(entry));
    },
    write: (name, parts) =>
      writing(folder, async () => {
        const id = randomName();
        let [count, byteLength] = [0, 0];
        for await (const part of parts) {
          await set(partOf(id, count++), part, database);
          byteLength += countBytes(part);
        }
        const before = await find(name);
        await set(entryOf(name), { id, count }, database);
        if (before !== undefined) await delMany(partsOf(before), database);
        return byteLength;
      }),
    settle: async () => undefined,
    async drop(scope) {
      const names = (await keysOf(database, output)).flatMap(([, kind, name]) => (kind === 'entry' ? [`${name}`] : []));
      for (const name of names.filter((other) => other.startsWith(`${scope}.`))) {
        const entry = (await find(name))!;
        await delMany([entryOf(name), ...partsOf(entry)], database);
      }
    },
  };
}

async function* readParts(database: UseStore, parts: readonly Key[]): AsyncGenerator<unknown> {
  for (const part of parts) yield await get(part, database);
}

/** Bytes of typed arrays in plain data; the rest is small. */
function countBytes(value: unknown): number {
  if (ArrayBuffer.isView(value)) return value.byteLength;
  if (typeof value !== 'object' || value === null) return 0;
  const items = value instanceof Map ? [...value.values()] : Object.values(value);
  return items.reduce<number>((sum, item) => sum + countBytes(item), 0);
}
