import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFiles } from './hash-files.js';
import { type ModelFolder, runPaths, TOKENIZER } from './model-folder.js';

/** What turns text into the model's tokens. */
const TOKENIZER_FILES = [TOKENIZER, 'tokenizer_config.json'];

/**
 * SHA-256 of all that decides what a model says to a text: its graph, its weights, its tokenizer.
 * @throws ModelFormatError when a file cannot be read.
 */
export async function hashModel(folder: ModelFolder, signal?: AbortSignal): Promise<string> {
  const tokenizer: string[] = [];
  for (const name of TOKENIZER_FILES) {
    const path = join(folder.root, name);
    const exists = await access(path).then(
      () => true,
      () => false,
    );
    if (exists) tokenizer.push(path);
  }
  return hashFiles([...runPaths(folder, await folder.load()), ...tokenizer], signal);
}
