import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import type { EntryStore } from '../journal.js';
import { writing } from '../writing.js';
import { createFileSink, syncFolder } from './file-sink.js';

/** Names of entries' files, complete or not. */
export const ENTRY = /\.entry(\.new)?$/;

/** In front of each part stands its length in bytes; after the last one, this. */
const LENGTH_BYTES = 8;
const END = 2n ** 64n - 1n;

/**
 * Keeps entries as files of a folder. Each is written under another name, brought to the disk and renamed, so that what has
 * its name is whole.
 */
export function createEntryStore(folder: string): EntryStore {
  const pathOf = (name: string) => join(folder, `${name.replaceAll(/[^\w.-]/g, '_')}.entry`);
  return {
    async read(name) {
      const path = pathOf(name);
      return (await isWhole(path)) ? readParts(path) : undefined;
    },
    async write(name, parts) {
      const path = pathOf(name);
      const sink = await createFileSink(`${path}.new`);
      let byteLength = LENGTH_BYTES;
      try {
        for await (const part of parts) {
          const bytes = serialize(part);
          await sink.write(lengthBytes(BigInt(bytes.byteLength)));
          await sink.write(bytes);
          byteLength += LENGTH_BYTES + bytes.byteLength;
        }
        await sink.write(lengthBytes(END));
      } catch (error) {
        await sink.close().catch(() => undefined);
        await rm(`${path}.new`, { force: true });
        throw error;
      }
      await sink.close();
      await writing(path, () => rename(`${path}.new`, path));
      await syncFolder(dirname(path));
      return byteLength;
    },
  };
}

function lengthBytes(length: bigint): Uint8Array {
  const bytes = new Uint8Array(LENGTH_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
}

/** Whether an entry is there and its lengths lead to its end; a disk may have lost some of what it took. */
async function isWhole(path: string): Promise<boolean> {
  for await (const { length, next, size } of walk(path)) if (length === END) return next === size;
  return false;
}

async function* readParts(path: string): AsyncGenerator<unknown> {
  for await (const { length, read } of walk(path)) if (length !== END) yield deserialize(await read());
}

interface Place {
  readonly length: bigint;
  readonly next: number;
  readonly size: number;
  read(): Promise<Buffer>;
}

async function* walk(path: string): AsyncGenerator<Place> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return;
  try {
    const { size } = await file.stat();
    const readAt = async (at: number, length: number) => {
      const bytes = Buffer.alloc(length);
      await file.read(bytes, 0, length, at);
      return bytes;
    };
    for (let at = 0; at + LENGTH_BYTES <= size; ) {
      const length = (await readAt(at, LENGTH_BYTES)).readBigUInt64LE();
      const start = at + LENGTH_BYTES;
      const next = length === END ? start : start + Number(length);
      if (next > size) return;
      yield { length, next, size, read: () => readAt(start, Number(length)) };
      if (length === END) return;
      at = next;
    }
  } finally {
    await file.close();
  }
}
