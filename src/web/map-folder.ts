import { concatenate } from '../concatenate.js';
import { ModelFormatError } from '../errors.js';
import type { ByteSource } from '../onnx/byte-source.js';
import { bytesSource } from '../onnx/memory-folder.js';
import type { Entry } from '../runtime/platform.js';
import { nextTask } from './next-task.js';
import type { WebFolder } from './web-folder.js';

/** The part of `Blob` in use. */
export interface BlobLike {
  readonly size: number;
  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> };
}

/** A folder over a map or list of files, by path. */
export function mapFolder(files: Map<string, Uint8Array | BlobLike>): WebFolder {
  const inside = (folder: string) => {
    const start = folder === '' ? '' : `${folder}/`;
    return [...files.keys()].filter((path) => path.startsWith(start)).map((path) => path.slice(start.length));
  };
  return {
    async kindOf(path) {
      if (files.has(path)) return 'file';
      return path === '' || inside(path).length > 0 ? 'folder' : undefined;
    },
    async list(folder) {
      const entries = inside(folder).map((path): Entry => {
        const [name = '', ...deeper] = path.split('/');
        return { name, kind: deeper.length > 0 ? 'folder' : 'file' };
      });
      return [...new Map(entries.map((entry) => [entry.name, entry])).values()];
    },
    async open(path) {
      const found = files.get(path);
      return found && ('slice' in found && 'size' in found ? blobSource(path, found) : memorySource(path, found));
    },
    async create(path) {
      const chunks: Uint8Array[] = [];
      return {
        write: async (bytes) => void chunks.push(new Uint8Array(bytes)),
        close: async () => void files.set(path, concatenate(Uint8Array, chunks)),
      };
    },
    async move(from, to) {
      files.set(to, files.get(from)!);
      files.delete(from);
    },
    async remove(path) {
      for (const file of inside(path)) files.delete(`${path}/${file}`);
      files.delete(path);
    },
  };
}

/** Bytes in memory; each read yields to the event loop, as reading a file does. */
function memorySource(name: string, bytes: Uint8Array): ByteSource {
  const source = bytesSource(name, bytes);
  return {
    ...source,
    async read(offset, length) {
      await nextTask();
      return source.read(offset, length);
    },
  };
}

/** A blob as a source. @throws ModelFormatError from `read` when the range exceeds it, or it is no longer readable. */
export function blobSource(name: string, blob: BlobLike): ByteSource {
  return {
    name,
    byteLength: blob.size,
    async read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= blob.size))
        throw new ModelFormatError(`${name}: ${length} bytes from ${offset} exceed its ${blob.size} bytes.`);
      const part = blob.slice(offset, offset + length);
      return new Uint8Array(
        await part.arrayBuffer().catch((cause) => {
          throw new ModelFormatError(`Cannot read ${name}: ${String(cause)}. Give the folder again.`, { cause });
        }),
      );
    },
  };
}
