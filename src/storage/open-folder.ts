import { ModelFormatError } from '../errors.js';
import type { SinkFolder, SourceFolder } from '../onnx/byte-source.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import type { Files, OpenFile } from '../runtime/platform.js';

/** A folder to read from and to write to; `close` closes the files opened for reading. */
export interface OpenFolder extends SourceFolder, SinkFolder {
  /** @throws ModelFormatError when a file has changed since it was opened. */
  checkUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Opens a folder for loading and saving models. Paths outside it are refused. */
export function openFolder(files: Files, folder: string): OpenFolder {
  const opened: OpenFile[] = [];
  const stamps = new Map<string, string | undefined>();
  const pathInside = (path: string): string => {
    const inside = normaliseRelativePath(path);
    if (inside === undefined) throw new ModelFormatError(`${folder}: "${path}" is not a path inside this folder.`);
    return files.resolve(folder, inside);
  };
  return {
    name: folder,
    async open(path) {
      const target = pathInside(path);
      const stamp = await files.stamp(target);
      const source = await files.open(target);
      if (source === undefined) return undefined;
      opened.push(source);
      if (!stamps.has(target)) stamps.set(target, stamp);
      return source;
    },
    async checkUnchanged() {
      for (const [path, stamp] of stamps) {
        const now = await files.stamp(path);
        if (now !== stamp)
          throw new ModelFormatError(
            `${path} changed while it was in use: it was ${stamp}, and is ${now ?? 'gone'}. Run again when nothing writes to it.`,
          );
      }
    },
    create: async (path) => files.create(pathInside(path)),
    async close() {
      await Promise.all(opened.splice(0).map((source) => source.close()));
    },
  };
}
