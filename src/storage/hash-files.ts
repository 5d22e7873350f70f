import type { Platform } from '../platform/platform.js';
import { type ModelFolder, runPaths, TOKENIZER } from './model-folder.js';
import { readPieces } from './read-bytes.js';

/** SHA-256 in hexadecimal of files, one after the other. @throws ModelFormatError when one cannot be read. */
export async function hashFiles(
  { files, createHash }: Platform,
  paths: readonly string[],
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash();
  for (const path of paths) for await (const piece of readPieces(files, path, { signal })) hash.update(piece);
  return hash.digest();
}

/** What turns text into the model's tokens. */
const TOKENIZER_FILES = [TOKENIZER, 'tokenizer_config.json'];

/**
 * SHA-256 of all that decides what a model says to a text: its graph, its weights, its tokenizer.
 * @throws ModelFormatError when a file cannot be read.
 */
export async function hashModel(folder: ModelFolder, signal?: AbortSignal): Promise<string> {
  const { platform, root } = folder;
  const { files } = platform;
  const paths = [...runPaths(folder, await folder.load())];
  for (const path of TOKENIZER_FILES.map((name) => files.resolve(root, name)))
    if ((await files.kindOf(path)) === 'file') paths.push(path);
  return hashFiles(platform, paths, signal);
}
