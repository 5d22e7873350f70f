import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ignoreRejection } from '../ignore-rejection.js';
import type { EntryStore } from '../runtime/journal.js';
import type { FileSink } from '../runtime/platform.js';
import { writing } from '../runtime/writing.js';
import { createFileSink } from './file-sink.js';
import { decodePart, encodePart } from './part-bytes.js';
import { syncFolder } from './sync-file.js';

/** Names of entries' files, complete or not. */
export const ENTRY = /\.entry(\.new)?$/;

/**
 * Format of an entry: parts, each after the lengths of its JSON and of its views; then `END` twice; then a SHA-256 over the
 * run's key, the entry's name and all bytes, so that renamed entries, or those of other runs, are invalid.
 */
const LENGTHS_BYTES = 16;
const END = 2n ** 64n - 1n;
const HASH_BYTES = 32;

/** Small pieces are buffered up to this size; larger ones are written directly. */
const BUFFER_BYTES = 2 ** 16;
/** Bytes per read when hashing. */
const PIECE_BYTES = 2 ** 20;
/** Largest number of queued entries. */
const MAX_QUEUED = 4;

/**
 * Stores entries as files of a folder. Each is written to a temporary name, synced and renamed, so that existing
 * entries are complete. A write returns when its parts are buffered; the disk follows in order.
 * @param run key of the run whose entries they are
 * @param createSink makes the files
 */
export function createEntryStore(folder: string, run: string, createSink = createFileSink): EntryStore {
  const pathOf = (name: string) => join(folder, `${fileSafe(name)}.entry`);
  const startHash = (path: string) => createHash('sha256').update(`${run}\n${basename(path)}\n`);
  /** Entries known to be complete. */
  const checked = new Set<string>();
  const queue: { readonly path: string; readonly completed: Promise<void> }[] = [];
  const flushQueue = async (isShort: () => boolean) => {
    while (queue.length > 0 && !isShort()) {
      await queue[0]!.completed;
      queue.shift();
    }
  };
  const has = async (name: string) => {
    const path = pathOf(name);
    if (!checked.has(path) && (await isComplete(path, startHash(path)))) checked.add(path);
    return checked.has(path);
  };
  return {
    has,
    async read(name) {
      await flushQueue(() => false);
      return (await has(name)) ? readParts(pathOf(name)) : undefined;
    },
    async write(name, parts) {
      const path = pathOf(name);
      await flushQueue(() => queue.length < MAX_QUEUED && queue.every((other) => other.path !== path));
      const sink = await createSink(`${path}.new`, BUFFER_BYTES);
      let byteLength: number;
      try {
        byteLength = await writeParts(sink, startHash(path), parts);
      } catch (error) {
        await sink.close().catch(() => undefined);
        await rm(`${path}.new`, { force: true });
        throw error;
      }
      checked.add(path);
      queue.push({ path, completed: ignoreRejection(complete(sink, path, queue.at(-1)?.completed)) });
      return byteLength;
    },
    async settle() {
      // Wait for all, so that no write is active after a failure.
      await Promise.allSettled(queue.map(({ completed }) => completed));
      await flushQueue(() => false);
    },
    async drop(scope) {
      await flushQueue(() => false);
      const files = (await readdir(folder)).filter(
        (file) => file.startsWith(`${fileSafe(scope)}.`) && ENTRY.test(file),
      );
      for (const path of files.map((file) => join(folder, file))) {
        checked.delete(path);
        await rm(path, { force: true });
      }
    },
  };
}

/** Encodes a name for every file system. */
function fileSafe(name: string): string {
  return name.replaceAll(/[^\w.-]/g, '_');
}

async function writeParts(
  sink: FileSink,
  hash: Hash,
  parts: Iterable<unknown> | AsyncIterable<unknown>,
): Promise<number> {
  let byteLength = HASH_BYTES;
  const put = async (bytes: Uint8Array) => {
    hash.update(bytes);
    byteLength += bytes.byteLength;
    await sink.write(bytes);
  };
  for await (const part of parts) {
    const { plain, views } = encodePart(part);
    const viewBytes = views.reduce((sum, view) => sum + view.byteLength, 0);
    await put(lengthsOf(BigInt(plain.byteLength), BigInt(viewBytes)));
    for (const bytes of [plain, ...views]) await put(bytes);
  }
  await put(lengthsOf(END, END));
  await sink.write(hash.digest());
  return byteLength;
}

/** Renames an entry after it and all earlier ones are on disk. */
async function complete(sink: FileSink, path: string, before: Promise<void> | undefined): Promise<void> {
  try {
    await Promise.allSettled([before, sink.close()]).then(throwFirstError);
    await writing(path, () => rename(`${path}.new`, path));
  } catch (error) {
    await rm(`${path}.new`, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

function throwFirstError(ends: readonly PromiseSettledResult<unknown>[]): void {
  const failed = ends.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined;
  if (failed !== undefined) throw failed.reason;
}

function lengthsOf(plain: bigint, views: bigint): Uint8Array {
  const bytes = new Uint8Array(LENGTHS_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, plain, true);
  view.setBigUint64(8, views, true);
  return bytes;
}

/** Whether an entry is complete and unchanged, by its hash. */
async function isComplete(path: string, hash: Hash): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return false;
  try {
    const { size } = await file.stat();
    const end = size - HASH_BYTES;
    if (end < LENGTHS_BYTES || (await readLengths(file, end - LENGTHS_BYTES)).plain !== END) return false;
    for (let at = 0; at < end; at += PIECE_BYTES) hash.update(await readAt(file, at, Math.min(PIECE_BYTES, end - at)));
    return hash.digest().equals(await readAt(file, end, HASH_BYTES));
  } finally {
    await file.close();
  }
}

async function* readParts(path: string): AsyncGenerator<unknown> {
  const file = await open(path);
  try {
    for (let at = 0; ; ) {
      const { plain, views } = await readLengths(file, at);
      if (plain === END) return;
      const start = at + LENGTHS_BYTES;
      const middle = start + Number(plain);
      at = middle + Number(views);
      yield decodePart(await readAt(file, start, middle - start), await readAt(file, middle, at - middle));
    }
  } finally {
    await file.close();
  }
}

async function readLengths(file: FileHandle, at: number): Promise<{ readonly plain: bigint; readonly views: bigint }> {
  const bytes = await readAt(file, at, LENGTHS_BYTES);
  return { plain: bytes.readBigUInt64LE(0), views: bytes.readBigUInt64LE(8) };
}

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await file.read(bytes, 0, length, at);
  return bytes;
}
