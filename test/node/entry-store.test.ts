import { copyFile, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createEntryStore } from '../../src/node/entry-store.js';
import { createJournal, readCheckpoint } from '../../src/runtime/journal.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const open = () => createJournal(createEntryStore(folder(), 'run'));
const path = () => join(folder(), 'a.b.entry');

async function readAll(parts: AsyncIterable<unknown> | undefined): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const part of parts ?? []) found.push(part);
  return found;
}

const PARTS = [{ left: 3, none: undefined, nan: Number.NaN }, new Map([[2, Float64Array.of(1, -0)]]), Int32Array.of(7)];

/** Writes an entry, and waits until it is on disk. */
async function writeEntry(parts: readonly unknown[]): Promise<void> {
  const journal = open();
  await journal.within('a').write('b', parts);
  await journal.settle();
}

it('reads entries as they were written, from another journal too', async () => {
  await writeEntry(PARTS);
  expect(await readAll(await open().within('a').read('b'))).toEqual(PARTS);
  expect(await readCheckpoint(open(), 'a.b')).toEqual(PARTS[0]);
  expect(await open().read('c')).toBeUndefined();
});

it('drops the entries of a scope, and no others', async () => {
  const journal = open();
  const outer = journal.within('run');
  for (const scope of ['result-1', 'result-10']) await outer.within(scope).write('weights', [scope]);
  await outer.drop('result-1');
  for (const found of [journal, open()]) {
    expect(await found.has('run.result-1.weights')).toBe(false);
    expect(await readCheckpoint(found, 'run.result-10.weights')).toBe('result-10');
  }
});

it('keeps the old entry when a new one fails', async () => {
  const journal = open();
  await journal.write('a.b', ['old']);
  await journal.settle();
  const failing = async function* () {
    yield 'new';
    throw new Error('no more');
  };
  await expect(journal.write('a.b', failing())).rejects.toThrow('no more');
  expect(await readCheckpoint(open(), 'a.b')).toBe('old');
  expect(await readdir(folder())).toEqual(['a.b.entry']);
});

it('encodes each part before the next, and writes entries of one name in order', async () => {
  const journal = open();
  const data = new Float64Array(20_000);
  const parts = function* (first: number) {
    for (let at = first; at < first + 3; at += 1) yield { at, data: data.fill(at) };
  };
  for (const first of [0, 10, 20]) await journal.write('a.b', parts(first));
  for (let at = 0; at < 6; at += 1) await journal.write(`other-${at}`, [at]);
  await journal.settle();
  expect(await readAll(await open().read('a.b'))).toEqual(
    [20, 21, 22].map((at) => ({ at, data: new Float64Array(20_000).fill(at) })),
  );
  expect(await readCheckpoint(open(), 'other-5')).toBe(5);
  expect((await readdir(folder())).filter((name) => name.endsWith('.new'))).toEqual([]);
});

it('ignores entries that are truncated, changed or too long', async () => {
  await writeEntry(PARTS);
  const bytes = await readFile(path());
  for (const length of [0, 7, 20, bytes.byteLength - 9, bytes.byteLength - 1]) {
    await writeFile(path(), bytes);
    await truncate(path(), length);
    expect(await open().read('a.b')).toBeUndefined();
  }
  for (const at of [0, 20, bytes.byteLength - 40, bytes.byteLength - 1]) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 1;
    await writeFile(path(), changed);
    expect(await open().has('a.b')).toBe(false);
  }
  await writeFile(path(), Buffer.concat([bytes, bytes]));
  expect(await open().read('a.b')).toBeUndefined();
});

it('ignores entries of another name or another run', async () => {
  await writeEntry(PARTS);
  await copyFile(path(), join(folder(), 'a.c.entry'));
  expect(await open().has('a.c')).toBe(false);
  expect(await createEntryStore(folder(), 'other run').read('a.b')).toBeUndefined();
  expect(await open().has('a.b')).toBe(true);
});

it('writes small checkpoints sooner than large ones, and limits their share of the time', async () => {
  let ms = 0;
  const write = async () => {
    ms += 10;
    return 100;
  };
  const journal = createJournal({ ...createEntryStore(folder(), 'run'), write }, () => ms);
  expect(journal.shouldCheckpoint(0)).toBe(false);
  ms += 1200;
  expect([journal.shouldCheckpoint(0), journal.shouldCheckpoint(2 ** 27)]).toEqual([true, false]);
  ms += 60_000;
  expect(journal.shouldCheckpoint(2 ** 27)).toBe(true);
  for (let writes = 0; journal.shouldCheckpoint(0) && writes < 1000; writes += 1) await journal.write('a', []);
  expect(journal.shouldCheckpoint(0)).toBe(false);
  const [spent, all] = [ms - 61_200, ms];
  expect(spent / all).toBeGreaterThan(0.01);
  expect(spent / all).toBeLessThan(0.03);
});

it('counts writes that end a stage separately, in a scope too', async () => {
  let ms = 0;
  const write = async () => {
    ms += 100;
    return 100;
  };
  const journal = createJournal({ ...createEntryStore(folder(), 'run'), write }, () => ms);
  ms += 4100;
  await journal.within('result').write('a', [], true);
  expect([journal.shouldCheckpoint(0), journal.shouldCheckpoint(0, true)]).toEqual([true, true]);
  await journal.within('result').write('a', [], true);
  expect([journal.shouldCheckpoint(0), journal.shouldCheckpoint(0, true)]).toEqual([true, false]);
});
