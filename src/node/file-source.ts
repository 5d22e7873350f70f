import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { ModelFormatError } from '../errors.js';
import type { ByteSource } from '../onnx/byte-source.js';

/** A file as a source; `close` frees its descriptor. */
export interface FileSource extends ByteSource {
  close(): Promise<void>;
}

/**
 * A file that is opened when the first byte is read.
 * @param name for messages; default the path
 * @returns undefined when there is no such file.
 * @throws ModelFormatError when the path is no file, or cannot be looked at.
 */
export async function openFileSource(path: string, name = path): Promise<FileSource | undefined> {
  const stats = await stat(path).catch((cause) => {
    if (isMissing(cause)) return undefined;
    throw new ModelFormatError(`Cannot look at ${name}: ${reason(cause)}.`, { cause });
  });
  if (stats === undefined) return undefined;
  if (!stats.isFile()) throw new ModelFormatError(`${name} is not a file.`);
  return fileSource(path, name, stats.size);
}

function fileSource(path: string, name: string, byteLength: number): FileSource {
  let file: Promise<FileHandle> | undefined;
  return {
    name,
    byteLength,
    async read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= byteLength)) {
        throw new ModelFormatError(`${name}: ${length} bytes from ${offset} leave its ${byteLength} bytes.`);
      }
      try {
        file ??= open(path);
        return await readFully(await file, { offset, length, name });
      } catch (cause) {
        if (cause instanceof ModelFormatError) throw cause;
        throw new ModelFormatError(`Cannot read ${name}: ${reason(cause)}.`, { cause });
      }
    },
    async close() {
      const opened = file;
      file = undefined;
      await (await opened?.catch(() => undefined))?.close();
    },
  };
}

/** One read may bring less than was asked for, above all beyond 2 GiB. */
async function readFully(file: FileHandle, range: { offset: number; length: number; name: string }) {
  const bytes = new Uint8Array(range.length);
  for (let filled = 0; filled < range.length; ) {
    const length = Math.min(range.length - filled, MAX_READ_BYTES);
    const { bytesRead } = await file.read(bytes, filled, length, range.offset + filled);
    if (bytesRead === 0) throw new ModelFormatError(`${range.name} became shorter while it was read.`);
    filled += bytesRead;
  }
  return bytes;
}

/** Node refuses single reads of 2 GiB and more. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * Refuses what is there and no regular file, before it is opened: a pipe waits for a writer, a device has no end.
 * @returns its size in bytes.
 * @throws Error, also where there is nothing, as the file system says it.
 */
export async function checkRegularFile(path: string): Promise<number> {
  const stats = await stat(path);
  if (stats.isDirectory()) throw new Error('it is a folder, no file');
  if (!stats.isFile()) throw new Error('it is no regular file but a pipe, a socket or a device');
  return stats.size;
}

/** Longest text that V8 makes of a file, in bytes. */
const MAX_WHOLE_BYTES = 2 ** 29 - 24;

/** The bytes of a regular file that fits a text. @throws Error as `checkRegularFile` and the file system do. */
export async function readRegularFile(path: string): Promise<Buffer<ArrayBuffer>> {
  const size = await checkRegularFile(path);
  if (size > MAX_WHOLE_BYTES) throw new Error(`it has ${size} bytes, and ${MAX_WHOLE_BYTES} are read at most`);
  return readFile(path);
}

/** Whether an error says that a path does not exist. */
export function isMissing(cause: unknown): boolean {
  return hasCode(cause, 'ENOENT') || hasCode(cause, 'ENOTDIR');
}

/** Whether an error of the file system has a code. */
export function hasCode(cause: unknown, code: string): boolean {
  return typeof cause === 'object' && cause !== null && 'code' in cause && cause.code === code;
}

/** What an error said, for another message. */
export function reason(cause: unknown): string {
  return typeof cause === 'object' && cause !== null && 'message' in cause ? String(cause.message) : String(cause);
}
