import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createJournal, readKept } from '../../../src/platform/journal.js';
import { createEntryStore } from '../../../src/platform/node/entry-store.js';
import { useTemporaryFolder } from '../../support/temporary-folder.js';

const folder = useTemporaryFolder();
const open = () => createJournal(createEntryStore(folder()));
const path = () => join(folder(), 'a.b.entry');

async function readAll(parts: AsyncIterable<unknown> | undefined): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const part of parts ?? []) found.push(part);
  return found;
}

const PARTS = [{ left: 3, none: undefined, nan: Number.NaN }, new Map([[2, Float64Array.of(1, -0)]]), Int32Array.of(7)];

it('gives back what it was given, in another process too', async () => {
  await open().within('a').write('b', PARTS);
  expect(await readAll(await open().within('a').read('b'))).toEqual(PARTS);
  expect(await readKept(open(), 'a.b')).toEqual(PARTS[0]);
  expect(await open().read('c')).toBeUndefined();
});

it('keeps the old entry when a new one fails', async () => {
  const journal = open();
  await journal.write('a.b', ['old']);
  const failing = async function* () {
    yield 'new';
    throw new Error('no more');
  };
  await expect(journal.write('a.b', failing())).rejects.toThrow('no more');
  expect(await readKept(open(), 'a.b')).toBe('old');
});

it('takes no entry for whole that was cut off or has more than it wrote', async () => {
  await open().write('a.b', PARTS);
  const bytes = await readFile(path());
  for (const length of [0, 7, 20, bytes.byteLength - 9, bytes.byteLength - 1]) {
    await writeFile(path(), bytes);
    await truncate(path(), length);
    expect(await open().read('a.b')).toBeUndefined();
  }
  await writeFile(path(), Buffer.concat([bytes, bytes]));
  expect(await open().read('a.b')).toBeUndefined();
});

it('is due for little before it is for much, and no more often than writes are cheap', async () => {
  let ms = 0;
  const write = async () => {
    ms += 10;
    return 100;
  };
  const journal = createJournal({ read: async () => undefined, write }, () => ms);
  expect(journal.isDue(0)).toBe(false);
  ms += 1200;
  expect([journal.isDue(0), journal.isDue(2 ** 27)]).toEqual([true, false]);
  ms += 60_000;
  expect(journal.isDue(2 ** 27)).toBe(true);
  for (let writes = 0; journal.isDue(0) && writes < 1000; writes += 1) await journal.write('a', []);
  expect(journal.isDue(0)).toBe(false);
  const [spent, all] = [ms - 61_200, ms];
  expect(spent / all).toBeGreaterThan(0.01);
  expect(spent / all).toBeLessThan(0.03);
});
