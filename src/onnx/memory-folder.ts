import { concatenate } from '../concatenate.js';
import { ModelFormatError } from '../errors.js';
import type { ByteSource, SinkFolder, SourceFolder } from './byte-source.js';
import { normaliseRelativePath } from './relative-path.js';

/** Bytes in memory as a source. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    byteLength: bytes.byteLength,
    async read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= bytes.byteLength)) {
        throw new ModelFormatError(`${name}: ${length} bytes from ${offset} exceed its ${bytes.byteLength} bytes.`);
      }
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
  };
}

/** A folder of files in memory, to read and to write: for browsers, and for models without a disk. */
export function createMemoryFolder(name: string, files = new Map<string, Uint8Array>()): SourceFolder & SinkFolder {
  return {
    name,
    async open(path) {
      const bytes = files.get(pathInside(name, path));
      return bytes && bytesSource(path, bytes);
    },
    async create(path) {
      const inside = pathInside(name, path);
      const chunks: Uint8Array[] = [];
      return {
        async write(bytes) {
          chunks.push(new Uint8Array(bytes));
        },
        async close() {
          files.set(inside, concatenate(Uint8Array, chunks));
        },
      };
    },
  };
}

/** Normalises a path. @throws ModelFormatError when it is outside the folder. */
function pathInside(folder: string, path: string): string {
  const inside = normaliseRelativePath(path);
  if (inside === undefined) throw new ModelFormatError(`${folder}: "${path}" is not a path inside this folder.`);
  return inside;
}
