import { access, constants, type FileHandle, mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { errorMessage } from '../error-message.js';
import { ModelFormatError, OptionError } from '../errors.js';
import { bytesSource } from '../onnx/memory-folder.js';
import { type Addition, type Entry, type Files, MAX_TEXT_BYTES, type OpenFile } from '../runtime/platform.js';
import { writing } from '../runtime/writing.js';
import { buildFolder } from './atomic-folder.js';
import { listFile } from './built-files.js';
import { checkNames, checkNew, checkOutput } from './check-output.js';
import { createFileSink } from './file-sink.js';
import { kindOf, relativeInside, resolveLinks } from './paths.js';
import { syncFolder } from './sync-file.js';
import { hasCode, isMissing } from './system-error.js';

/** The file system. Links to files are followed, since model caches consist of links. */
export const nodeFiles: Files = {
  resolve,
  split: (path) => ({ folder: dirname(path), name: basename(path) }),
  relative: relativeInside,
  kindOf,
  async list(folder) {
    const entries: Entry[] = [];
    for (const found of await readdir(folder, { withFileTypes: true })) {
      const { name } = found;
      if (found.isDirectory()) entries.push({ name, kind: 'folder' });
      else if (found.isFile() || (await isFile(join(folder, name)))) entries.push({ name, kind: 'file' });
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  },
  open: openFileSource,
  create: (path) => createFileSink(path),
  append: appendToFile,
  writeTogether,
  checkOutput,
  checkFile,
  real: resolveLinks,
  stamp,
  buildFolder,
};

/** @see Files.checkFile */
async function checkFile(path: string): Promise<void> {
  checkNames(path, path);
  const kind = await kindOf(path);
  if (kind === 'folder') throw new OptionError(`Cannot write ${path}: it is a folder. Name a file.`);
  if (kind === 'file') await writing(path, () => access(path, constants.W_OK));
  await checkNew(path, { name: path, kind: 'file' });
}

/** @see Files.stamp */
async function stamp(path: string, withChangeTime = false): Promise<string | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  if (stats === undefined) return undefined;
  const version = [stats.dev, stats.ino, stats.mtimeNs, ...(withChangeTime ? [stats.ctimeNs] : [])];
  return `${stats.size} bytes, ${stats.mtime.toISOString()} (${version.join(':')})`;
}

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

/** The file is opened for each write: in between it may be moved, or written by another run. @see Files.append */
function appendToFile(path: string, { text, start, expectedBytes }: Addition): Promise<number> {
  return writing(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(path, 'a');
    try {
      const { size } = await file.stat();
      if (size !== expectedBytes)
        throw new Error(`it has ${size} bytes, not ${expectedBytes}: another program writes to it`);
      await file.truncate(start);
      await file.appendFile(text);
      return (await file.stat()).size;
    } finally {
      await file.close();
    }
  });
}

/** Suffix of incomplete files: constant, so that the next run replaces files of an interrupted one. */
const suffix = '.fang-prune-partial';

/** @see Files.writeTogether */
async function writeTogether(files: Parameters<Files['writeTogether']>[0]): Promise<void> {
  const folders = new Set(Array.from(files.keys(), dirname));
  const created = new Map<string, string | undefined>();
  try {
    for (const folder of folders) created.set(folder, await writing(folder, () => mkdir(folder, { recursive: true })));
    for (const [path, write] of files) {
      await listFile(path);
      const sink = await createFileSink(path + suffix);
      await write(sink).finally(() => sink.close());
    }
    for (const path of files.keys()) await writing(path, () => rename(path + suffix, path));
    for (const folder of folders) await syncFolder(folder);
  } catch (error) {
    await Promise.all([...files.keys()].map((path) => rm(path + suffix, { force: true })));
    for (const [folder, first] of created) if (first !== undefined) await removeEmpty(folder, first);
    throw error;
  }
}

/** Removes a folder and its parents up to `first`, as far as they are empty. */
async function removeEmpty(folder: string, first: string): Promise<void> {
  let isEmpty = true;
  for (let path = resolve(folder); isEmpty && path.length >= first.length; path = dirname(path))
    isEmpty = await rmdir(path).then(
      () => true,
      () => false,
    );
}

/** The file is opened at the first read, and closed by `close`. @see Files */
async function openFileSource(path: string, pipes = false): Promise<OpenFile | undefined> {
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

/** Timeout of a silent pipe. */
const SILENT_MS = 30_000;

/** Polling interval of a silent pipe. */
const POLL_MS = 10;

/**
 * Reads a pipe to its end. It is opened without waiting for a writer, which might never come.
 * @throws ModelFormatError after a timeout without data, or for too much data.
 */
export async function readPipe(path: string, silentMs = SILENT_MS): Promise<Uint8Array> {
  const pipe = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const pieces: Uint8Array[] = [];
  let byteLength = 0;
  let lastDataAt = performance.now();
  try {
    while (true) {
      const { bytesRead, buffer } = await pipe.read(Buffer.alloc(2 ** 16)).catch(emptyIfWaiting);
      byteLength += bytesRead;
      if (byteLength > MAX_TEXT_BYTES) throw new ModelFormatError(`${path} has more than ${MAX_TEXT_BYTES} bytes.`);
      if (bytesRead > 0) {
        pieces.push(buffer.subarray(0, bytesRead));
        lastDataAt = performance.now();
      } else if (buffer.length > 0 && byteLength > 0) return Buffer.concat(pieces);
      else if (performance.now() - lastDataAt > silentMs)
        throw new ModelFormatError(`${path} is a pipe that gave no data for ${silentMs / 1000} s.`);
      else await setTimeout(POLL_MS);
    }
  } finally {
    await pipe.close();
  }
}

/** An empty read if a writer exists that has written nothing yet. @throws other errors */
function emptyIfWaiting(cause: unknown): { readonly bytesRead: number; readonly buffer: Buffer } {
  if (hasCode(cause, 'EAGAIN')) return { bytesRead: 0, buffer: Buffer.alloc(0) };
  throw cause;
}
