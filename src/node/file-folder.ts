import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ModelFormatError, OptionError } from '../errors.js';
import type { SinkFolder, SourceFolder } from '../onnx/byte-source.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import { type FileSource, openFileSource, reason } from './file-source.js';

/** A folder of files to read; `close` closes all that were opened. */
export interface FileFolder extends SourceFolder {
  close(): Promise<void>;
}

/** Small writes are gathered to this size before they go to the disk. */
const WRITE_BUFFER_BYTES = 2 ** 20;

/**
 * A directory to read from. Paths cannot climb out of it, but links inside it are followed: caches of downloaded models
 * consist of links.
 */
export function openFileFolder(directory: string): FileFolder {
  const opened: FileSource[] = [];
  return {
    name: directory,
    async open(path) {
      const source = await openFileSource(pathInside(directory, path));
      if (source !== undefined) opened.push(source);
      return source;
    },
    async close() {
      await Promise.all(opened.splice(0).map((source) => source.close()));
    },
  };
}

/** A directory to write into; files that exist are replaced, folders are made as needed. @throws OptionError when it cannot. */
export function createFileSink(directory: string): SinkFolder {
  return {
    async create(path) {
      const target = pathInside(directory, path);
      const file = await writing(target, async () => {
        await mkdir(dirname(target), { recursive: true });
        return open(target, 'w');
      });
      return bufferedSink(file, target);
    },
  };
}

function bufferedSink(file: FileHandle, target: string) {
  const buffer = new Uint8Array(WRITE_BUFFER_BYTES);
  let filled = 0;
  const flush = async () => {
    const pending = buffer.subarray(0, filled);
    filled = 0;
    await writing(target, () => file.writeFile(pending));
  };
  return {
    async write(bytes: Uint8Array) {
      if (filled + bytes.byteLength > buffer.byteLength) await flush();
      if (bytes.byteLength > buffer.byteLength) return writing(target, () => file.writeFile(bytes));
      buffer.set(bytes, filled);
      filled += bytes.byteLength;
    },
    async close() {
      try {
        await flush();
      } finally {
        await file.close();
      }
    },
  };
}

/** Runs an action that writes. @throws OptionError saying what the system said: another place is the remedy. */
export async function writing<T>(target: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw new OptionError(`Cannot write ${target}: ${reason(cause)}. Make room or choose another place.`, { cause });
  }
}

/** @throws ModelFormatError when the path leaves the directory. */
function pathInside(directory: string, path: string): string {
  const inside = normaliseRelativePath(path);
  if (inside === undefined) throw new ModelFormatError(`${directory}: "${path}" is not a path inside this folder.`);
  return join(directory, inside);
}
