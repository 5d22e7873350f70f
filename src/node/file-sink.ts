import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { FileSink } from '../runtime/platform.js';
import { writing } from '../runtime/writing.js';
import { listFile } from './built-files.js';
import { syncFile } from './sync-file.js';

/** Default buffer size of small writes. */
const WRITE_BUFFER_BYTES = 2 ** 20;

/** @see Files.create */
export async function createFileSink(path: string, gatheredBytes = WRITE_BUFFER_BYTES): Promise<FileSink> {
  await listFile(path);
  const file = await writing(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    return open(path, 'w');
  });
  return bufferedSink(file, path, new Uint8Array(gatheredBytes));
}

function bufferedSink(file: FileHandle, path: string, buffer: Uint8Array): FileSink {
  let filled = 0;
  const flush = async () => {
    const pending = buffer.subarray(0, filled);
    filled = 0;
    await writing(path, () => file.writeFile(pending));
  };
  return {
    async write(bytes: Uint8Array) {
      if (filled + bytes.byteLength > buffer.byteLength) await flush();
      if (bytes.byteLength > buffer.byteLength) return writing(path, () => file.writeFile(bytes));
      buffer.set(bytes, filled);
      filled += bytes.byteLength;
    },
    async close() {
      try {
        await flush();
        await writing(path, () => syncFile(file));
      } finally {
        await file.close();
      }
    },
  };
}
