import type { Entry, EntryKind } from '../runtime/platform.js';
import { writing } from '../runtime/writing.js';
import { type BlobLike, blobSource } from './map-folder.js';
import type { WebFolder } from './web-folder.js';

/** The part of `FileSystemDirectoryHandle` in use. */
export interface DirectoryHandle {
  readonly name: string;
  getDirectoryHandle(name: string, options?: { readonly create?: boolean }): Promise<DirectoryHandle>;
  getFileHandle(name: string, options?: { readonly create?: boolean }): Promise<FileHandle>;
  removeEntry(name: string, options?: { readonly recursive?: boolean }): Promise<void>;
  /** Supported by browsers with such handles, but missing in some typings. */
  entries?(): AsyncIterable<readonly [string, { readonly kind: 'file' | 'directory' }]>;
}

/** The part of `FileSystemFileHandle` in use. */
export interface FileHandle {
  getFile(): Promise<BlobLike>;
  /** Replaces the file's contents when closed. */
  createWritable(): Promise<{ write(bytes: Uint8Array<ArrayBuffer>): Promise<void>; close(): Promise<void> }>;
  /** Not in every browser. */
  move?(parent: DirectoryHandle, name: string): Promise<void>;
  /** In workers, for files of the origin's private file system. */
  createSyncAccessHandle?(): Promise<SyncAccessHandle>;
}

/** The part of `FileSystemSyncAccessHandle` in use. */
export interface SyncAccessHandle {
  read(bytes: Uint8Array, options: { readonly at: number }): number;
  write(bytes: Uint8Array, options: { readonly at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

/** @throws Error without space: Chromium returns an unsigned error number instead of the count, which is large. */
export function writeInPlace(file: SyncAccessHandle, bytes: Uint8Array, at: number): void {
  if (file.write(bytes, { at }) !== bytes.byteLength) throw new Error('there is no space left');
}

/** Bytes copied at once if files cannot be moved. */
const COPY_BYTES = 8 * 2 ** 20;

/** A folder over a picked directory or the origin's private file system. */
export function handleFolder(root: DirectoryHandle): WebFolder {
  const directory = async (path: string, create = false): Promise<DirectoryHandle> => {
    let found = root;
    for (const name of path.split('/').filter(Boolean)) found = await found.getDirectoryHandle(name, { create });
    return found;
  };
  const parentOf = async (path: string, create = false) => {
    const slash = path.lastIndexOf('/');
    return { parent: await directory(path.slice(0, Math.max(0, slash)), create), name: path.slice(slash + 1) };
  };
  const fileAt = async (path: string, create = false): Promise<FileHandle> => {
    const { parent, name } = await parentOf(path, create);
    return parent.getFileHandle(name, { create });
  };
  const folder: WebFolder = {
    async kindOf(path): Promise<EntryKind | undefined> {
      if ((await present(directory(path))) !== undefined) return 'folder';
      return (await present(fileAt(path))) && 'file';
    },
    async list(path) {
      const entries: Entry[] = [];
      const found = await present(directory(path));
      if (found === undefined) return entries;
      for await (const [name, { kind }] of found.entries!())
        entries.push({ name, kind: kind === 'directory' ? 'folder' : 'file' });
      return entries;
    },
    async open(path) {
      const file = await present(fileAt(path));
      return file && blobSource(path, await file.getFile());
    },
    async create(path) {
      const writable = await (await fileAt(path, true)).createWritable();
      // A failed writer is already closed; closing it again would hide the error.
      let hasFailed = false;
      const fail = (error: unknown) => {
        hasFailed = true;
        throw error;
      };
      return {
        // Shared memory cannot be written directly.
        write: (bytes) => writing(path, () => writable.write(new Uint8Array(bytes))).catch(fail),
        close: async () => (hasFailed ? undefined : writing(path, () => writable.close())),
      };
    },
    async move(from, to) {
      const file = await fileAt(from);
      const { parent, name } = await parentOf(to, true);
      if (file.move !== undefined) return file.move(parent, name);
      const [source, sink] = [blobSource(from, await file.getFile()), await folder.create(to)];
      for (let at = 0; at < source.byteLength; at += COPY_BYTES)
        await sink.write(await source.read(at, Math.min(COPY_BYTES, source.byteLength - at)));
      await sink.close();
      await folder.remove(from);
    },
    async remove(path) {
      const { parent, name } = await parentOf(path);
      await parent.removeEntry(name, { recursive: true });
    },
  };
  return folder;
}

/** Undefined if missing or of another kind. */
async function present<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (['NotFoundError', 'TypeMismatchError'].includes((error as Error).name)) return undefined;
    throw error;
  }
}
