import { bytesSource } from '../onnx/memory-folder.js';
import { type Files, type Platform, withMembers } from '../runtime/platform.js';

/** Contents of files by path relative to a folder, with `/`; undefined for removed files. */
export type ChangedFiles = ReadonlyMap<string, Uint8Array | undefined>;

/**
 * Creates a platform with changed or removed files of a folder. They are read from memory, and nothing is written.
 * @param root absolute path of the folder
 */
export function withChangedFiles(platform: Platform, root: string, changed: ChangedFiles): Platform {
  const { files } = platform;
  const insideOf = (path: string): string | undefined => {
    const inside = files.relative(root, path);
    return inside !== undefined && changed.has(inside) ? inside : undefined;
  };
  const members: Pick<Files, 'kindOf' | 'list' | 'open' | 'stamp'> = {
    async kindOf(path) {
      const inside = insideOf(path);
      if (inside === undefined) return files.kindOf(path);
      return changed.get(inside) === undefined ? undefined : 'file';
    },
    async list(folder) {
      const entries = await files.list(folder);
      const isRemoved = (name: string) => {
        const inside = insideOf(files.resolve(folder, name));
        return inside !== undefined && changed.get(inside) === undefined;
      };
      return entries.filter(({ name }) => !isRemoved(name));
    },
    async open(path, pipes) {
      const inside = insideOf(path);
      if (inside === undefined) return files.open(path, pipes);
      const bytes = changed.get(inside);
      return bytes && { ...bytesSource(path, bytes), close: async () => {} };
    },
    async stamp(path, withChangeTime) {
      const inside = insideOf(path);
      const bytes = inside === undefined ? undefined : changed.get(inside);
      if (inside === undefined) return files.stamp(path, withChangeTime);
      if (bytes === undefined) return undefined;
      const hash = platform.createHash();
      hash.update(bytes);
      return hash.digest();
    },
  };
  return withMembers(platform, { files: { ...files, ...members } });
}
