import { type EmbeddingsOption, type ModelFolder, openModelFolder } from './model-folder.js';

/** Opens a model folder, and closes all that was opened when `use` is done with it. */
export async function withModelFolder<T>(
  path: string,
  { embeddings }: EmbeddingsOption,
  use: (folder: ModelFolder) => Promise<T>,
): Promise<T> {
  const folder = await openModelFolder(path, { embeddings });
  try {
    return await use(folder);
  } finally {
    await folder.close();
  }
}
