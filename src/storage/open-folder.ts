import { ModelFormatError } from '../errors.js';
import type { SinkFolder, SourceFolder } from '../onnx/byte-source.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import type { Files, OpenFile } from '../platform/platform.js';

/** A folder to read from and to write into; `close` closes all that was opened to be read. */
export interface OpenFolder extends SourceFolder, SinkFolder {
  close(): Promise<void>;
}

/** A folder as models are loaded from and saved into. Paths cannot climb out of it. */
export function openFolder(files: Files, folder: string): OpenFolder {
  const opened: OpenFile[] = [];
  const pathInside = (path: string): string => {
    const inside = normaliseRelativePath(path);
    if (inside === undefined) throw new ModelFormatError(`${folder}: "${path}" is not a path inside this folder.`);
    return files.resolve(folder, inside);
  };
  return {
    name: folder,
    async open(path) {
      const source = await files.open(pathInside(path));
      if (source !== undefined) opened.push(source);
      return source;
    },
    create: async (path) => files.create(pathInside(path)),
    async close() {
      await Promise.all(opened.splice(0).map((source) => source.close()));
    },
  };
}
