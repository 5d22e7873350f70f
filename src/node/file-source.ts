import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { errorMessage } from '../error-message.js';
import { ModelFormatError } from '../errors.js';
import { bytesSource } from '../onnx/memory-folder.js';
import type { OpenFile } from '../runtime/platform.js';
import { readPipe } from './read-pipe.js';
import { isMissing } from './system-error.js';

/** The file is opened at the first read, and closed by `close`. @see Files */
export async function openFileSource(path: string, pipes = false): Promise<OpenFile | undefined> {
  const stats = await stat(path).catch((cause) => {
    if (isMissing(cause)) return undefined;
    throw new ModelFormatError(`Cannot read ${path}: ${errorMessage(cause)}.`, { cause });
  });
  if (stats === undefined) return undefined;
  if (pipes && stats.isFIFO()) return { ...bytesSource(path, await readPipe(path)), close: async () => undefined };
  // Pipes and devices are not opened: a pipe waits for a writer, a device may have no end.
  if (!stats.isFile())
    throw new ModelFormatError(
      `${path} is not a file${stats.isDirectory() ? '' : ' but a pipe, a socket or a device'}.`,
    );
  return fileSource(path, stats.size);
}

function fileSource(path: string, byteLength: number): OpenFile {
  let file: Promise<FileHandle> | undefined;
  return {
    name: path,
    byteLength,
    file: { folder: dirname(path), name: basename(path) },
    async read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= byteLength)) {
        throw new ModelFormatError(`${path}: ${length} bytes from ${offset} exceed its ${byteLength} bytes.`);
      }
      try {
        file ??= open(path);
        return await readFully(await file, { offset, length, path });
      } catch (cause) {
        if (cause instanceof ModelFormatError) throw cause;
        throw new ModelFormatError(`Cannot read ${path}: ${errorMessage(cause)}.`, { cause });
      }
    },
    async close() {
      const opened = file;
      file = undefined;
      await (await opened?.catch(() => undefined))?.close();
    },
  };
}

/** A single read may return fewer bytes, especially beyond 2 GiB. */
async function readFully(file: FileHandle, range: { offset: number; length: number; path: string }) {
  const bytes = new Uint8Array(range.length);
  for (let filled = 0; filled < range.length; ) {
    const length = Math.min(range.length - filled, MAX_READ_BYTES);
    const { bytesRead } = await file.read(bytes, filled, length, range.offset + filled);
    if (bytesRead === 0) throw new ModelFormatError(`${range.path} became shorter while it was read.`);
    filled += bytesRead;
  }
  return bytes;
}

/** Node.js refuses single reads of 2 GiB and more. */
const MAX_READ_BYTES = 2 ** 30;
