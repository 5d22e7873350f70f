import type { JobControl } from '../progress.js';
import type { Platform } from '../runtime/platform.js';
import { type ModelFolder, runPaths, TOKENIZER, totalBytes } from './model-folder.js';
import { readPieces } from './read-bytes.js';

/**
 * SHA-256 in hexadecimal of concatenated files.
 * @param onPiece called before each piece is hashed, with its bytes
 * @throws ModelFormatError when one cannot be read.
 */
export async function hashFiles(
  { files, createHash }: Platform,
  paths: readonly string[],
  signal?: AbortSignal,
  onPiece?: (byteLength: number) => void,
): Promise<string> {
  const hash = createHash();
  for (const path of paths)
    for await (const piece of readPieces(files, path, { signal })) {
      onPiece?.(piece.byteLength);
      hash.update(piece);
    }
  return hash.digest();
}

/** Files from this size take a second or more to hash. */
const LARGE_BYTES = 2 ** 28;
/** Bytes hashed between two reports. */
const REPORTED_BYTES = 2 ** 26;

/**
 * Hashes of large files, from the platform's hash cache where their paths, sizes and time stamps are unchanged. These include ctime,
 * since `cp -p` and archives restore the time of modification.
 */
export async function hashFilesCached(
  platform: Platform,
  paths: readonly string[],
  { signal, onProgress }: JobControl = {},
): Promise<string> {
  const { files, createHash, hashCache } = platform;
  const total = await totalBytes(platform, paths);
  if (total < LARGE_BYTES) return hashFiles(platform, paths, signal);
  const cacheKey = async () => {
    const hash = createHash();
    const stamps = await Promise.all(paths.map(async (path) => [path, await files.stamp(path, true)]));
    hash.update(new TextEncoder().encode(JSON.stringify(stamps)));
    return stamps.every(([, stamp]) => stamp !== undefined) ? hash.digest() : undefined;
  };
  const key = await cacheKey();
  const known = key && (await hashCache?.get(key));
  if (known !== undefined) return known;
  let done = 0;
  const found = await hashFiles(platform, paths, signal, (byteLength) => {
    if (done % REPORTED_BYTES < byteLength) onProgress?.({ stage: 'hash', done, total });
    done += byteLength;
  });
  onProgress?.({ stage: 'hash', done: total, total });
  if (key !== undefined && key === (await cacheKey())) await hashCache?.put(key, found);
  return found;
}

/** Files that define the model's tokens. */
const TOKENIZER_FILES = [TOKENIZER, 'tokenizer_config.json'];

/**
 * SHA-256 of all files that determine a model's output for a text: graph, weights, tokenizer.
 * @throws ModelFormatError when a file cannot be read.
 */
export async function hashModel(folder: ModelFolder, control: JobControl = {}): Promise<string> {
  const { platform, root } = folder;
  const { files } = platform;
  const paths = [...runPaths(folder, await folder.load())];
  for (const path of TOKENIZER_FILES.map((name) => files.resolve(root, name)))
    if ((await files.kindOf(path)) === 'file') paths.push(path);
  return hashFilesCached(platform, paths, control);
}
