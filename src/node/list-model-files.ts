import { dirname, join } from 'node:path';
import type { ModelFolder } from './model-folder.js';

/** Paths of the model file and its external data. @throws ModelFormatError */
export async function listModelFiles(folder: ModelFolder): Promise<readonly string[]> {
  const { storage } = await folder.load();
  const path = join(folder.root, folder.modelFile);
  return [path, ...(storage?.kind === 'external' ? storage.files.map((file) => join(dirname(path), file)) : [])];
}
