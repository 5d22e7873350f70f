import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { ModelFormatError } from '../errors.js';
import { checkRegularFile, reason } from './file-source.js';

/** SHA-256 in hexadecimal of files, one after the other. @throws ModelFormatError when one cannot be read. */
export async function hashFiles(paths: readonly string[], signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    try {
      await checkRegularFile(path);
      for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20, signal })) hash.update(bytes);
    } catch (cause) {
      signal?.throwIfAborted();
      throw new ModelFormatError(`Cannot read ${path}: ${reason(cause)}.`, { cause });
    }
  }
  return hash.digest('hex');
}
