import { ModelFormatError } from '../errors.js';
import type { ScratchFile } from '../runtime/tensor-store.js';
import { writing } from '../runtime/writing.js';
import { type DirectoryHandle, type SyncAccessHandle, writeInPlace } from './handle-folder.js';
import { randomName } from './random-name.js';
import { retryWhileLocked } from './retry-while-locked.js';

/** Page size of growing memory, which is never copied as a whole. */
const PAGE_BYTES = 2 ** 20;

/** Scratch space in memory. */
export function createMemoryScratch(): ScratchFile {
  const pages: Uint8Array[] = [];
  let end = 0;
  const visit = (offset: number, length: number, use: (page: Uint8Array, at: number) => void) => {
    for (let at = 0; at < length; ) {
      const [index, start] = [Math.floor((offset + at) / PAGE_BYTES), (offset + at) % PAGE_BYTES];
      pages[index] ??= new Uint8Array(PAGE_BYTES);
      const page = pages[index].subarray(start, start + length - at);
      use(page, at);
      at += page.byteLength;
    }
  };
  return {
    async write(offset, bytes) {
      visit(offset, bytes.byteLength, (page, at) => page.set(bytes.subarray(at, at + page.byteLength)));
      end = Math.max(end, offset + bytes.byteLength);
    },
    async readInto(offset, bytes) {
      if (offset + bytes.byteLength > end) throw outOfRange(offset, bytes);
      visit(offset, bytes.byteLength, (page, at) => bytes.set(page, at));
    },
    async dispose() {
      pages.length = 0;
      end = 0;
    },
  };
}

/** Directory of scratch files. */
const SCRATCH = '.fang-prune-scratch';

/**
 * Scratch space in a file of the origin's private file system; undefined if files cannot be written in place. Unused
 * scratch files of closed pages are removed.
 * @param run prefix of the file's name
 */
export async function createStoredScratch(home: DirectoryHandle, run: string): Promise<ScratchFile | undefined> {
  const name = `${run}-${randomName()}`;
  const directory = await writing(SCRATCH, () => home.getDirectoryHandle(SCRATCH, { create: true }));
  const remaining: string[] = [];
  for await (const [other] of directory.entries!()) remaining.push(other);
  for (const other of remaining) await directory.removeEntry(other).catch(() => undefined);
  const handle = await writing(name, () => directory.getFileHandle(name, { create: true }));
  let file: SyncAccessHandle | undefined;
  try {
    file = await handle.createSyncAccessHandle?.();
  } catch (error) {
    // Another starting run may have removed it as abandoned.
    if ((error as Error).name === 'NotFoundError') return createStoredScratch(home, run);
    throw error;
  }
  if (file === undefined) {
    await directory.removeEntry(name);
    return undefined;
  }
  let isDisposed = false;
  return {
    async write(offset, bytes) {
      await writing(name, async () => writeInPlace(file, bytes, offset));
    },
    async readInto(offset, bytes) {
      if (file.read(bytes, { at: offset }) !== bytes.byteLength) throw outOfRange(offset, bytes);
    },
    async dispose() {
      if (isDisposed) return;
      isDisposed = true;
      file.close();
      await directory.removeEntry(name);
    },
  };
}

/** Removes the scratch files of a terminated run. */
export async function removeScratch(home: DirectoryHandle, run: string): Promise<void> {
  const directory = await home.getDirectoryHandle(SCRATCH).catch(() => undefined);
  if (directory === undefined) return;
  const names: string[] = [];
  for await (const [name] of directory.entries!()) if (name.startsWith(`${run}-`)) names.push(name);
  for (const name of names) await retryWhileLocked(() => directory.removeEntry(name));
}

const outOfRange = (offset: number, { byteLength }: Uint8Array): ModelFormatError =>
  new ModelFormatError(`${byteLength} bytes from ${offset} exceed the scratch space.`);
