import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { TokenSource } from '../calibration/token-source.js';
import { OptionError } from '../errors.js';
import { checkRegularFile, readRegularFile, reason } from './file-source.js';

/** Reads a text file, UTF-8. @throws OptionError when it cannot be read. */
export async function readText(path: string): Promise<string> {
  try {
    return (await readRegularFile(path)).toString('utf8');
  } catch (cause) {
    throw new OptionError(`Cannot read the text ${path}: ${reason(cause)}.`, { cause });
  }
}

/** A calibration file as a source: `.jsonl` line by line, anything else as one text. @throws OptionError */
export async function openTextSource(path: string): Promise<TokenSource> {
  if (!path.endsWith('.jsonl')) return { text: await readText(path) };
  return { jsonl: readLines(path) };
}

/** Lines of a text file, UTF-8, read as they are asked for. @throws OptionError when it cannot be read. */
export async function* readLines(path: string): AsyncGenerator<string> {
  try {
    await checkRegularFile(path);
    yield* createInterface({ input: createReadStream(path, 'utf8'), crlfDelay: Number.POSITIVE_INFINITY });
  } catch (cause) {
    throw new OptionError(`Cannot read ${path}: ${reason(cause)}.`, { cause });
  }
}
