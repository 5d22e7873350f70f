import type { TokenSource } from '../calibration/token-source.js';
import { errorMessage } from '../error-message.js';
import { ModelFormatError, OptionError } from '../errors.js';
import type { Files } from '../runtime/platform.js';
import { readBytes, readPieces } from './read-bytes.js';

/** Reads a text file, UTF-8 with or without a byte order mark. @param what for messages @throws OptionError when it cannot be read, or is not text. */
export async function readText(files: Files, path: string, what = 'text', pipes = true): Promise<string> {
  const bytes = await readBytes(files, files.resolve(path), pipes).catch((cause) => {
    throw new OptionError(`Cannot read the ${what} ${path}: ${errorMessage(cause)}.`, { cause });
  });
  if (bytes === undefined) throw new OptionError(`Cannot read the ${what} ${path}: there is no such file.`);
  const zero = bytes.indexOf(0);
  if (zero >= 0)
    throw new OptionError(`Cannot read the ${what} ${path}: byte ${zero} is 0, so it is not text in UTF-8.`);
  try {
    return createDecoder()(bytes);
  } catch (cause) {
    throw new OptionError(`Cannot read the ${what} ${path}: ${errorMessage(cause)}.`, { cause });
  }
}

/** Decodes UTF-8 in pieces; the last one may end inside a character, as a truncated text does. */
function createDecoder(): (piece: Uint8Array) => string {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  return (piece) => {
    try {
      return decoder.decode(piece, { stream: true });
    } catch (cause) {
      throw new Error('it is not in UTF-8; save it as UTF-8', { cause });
    }
  };
}

/**
 * A calibration file as a source: `.jsonl` line by line, any other file as one text.
 * @param pipes whether it may be a pipe, which can be read only once
 * @throws OptionError
 */
export async function openTextSource(files: Files, path: string, pipes = true): Promise<TokenSource> {
  if (!isJsonl(path)) return { text: await readText(files, path, 'text', pipes) };
  return { jsonl: readLines(files, path, pipes) };
}

/** Whether a file has a document on each line, by its name. */
export const isJsonl = (path: string): boolean => /\.jsonl$/i.test(path);

/** Longest line in characters. It takes several times as many bytes of memory, joined, parsed and encoded. */
const MAX_LINE_LENGTH = 2 ** 25;

/** Lines of a text file, UTF-8, read lazily. @throws OptionError when it cannot be read, or a line is too long. */
export async function* readLines(files: Files, path: string, pipes = true): AsyncGenerator<string> {
  const decode = createDecoder();
  // A long line is joined once: joining and searching it for each piece would take quadratic time.
  let parts: string[] = [];
  let partsLength = 0;
  let pendingReturn = '';
  try {
    for await (const piece of readPieces(files, files.resolve(path), { pipes })) {
      const text = pendingReturn + decode(piece);
      pendingReturn = text.endsWith('\r') ? '\r' : '';
      const [first = '', ...others] = text.slice(0, text.length - pendingReturn.length).split(/\r\n|\n|\r/);
      const last = others.pop();
      partsLength += first.length;
      if (partsLength > MAX_LINE_LENGTH)
        throw new Error(`a line has more than ${MAX_LINE_LENGTH} characters; split its document, or give a text file`);
      parts.push(first);
      if (last === undefined) continue;
      // Releases the parts before a long line is yielded.
      const line = parts.join('');
      parts = [last];
      partsLength = last.length;
      yield line;
      yield* others;
    }
  } catch (cause) {
    const message = errorMessage(cause);
    throw new OptionError(cause instanceof ModelFormatError ? message : `Cannot read ${path}: ${message}.`, { cause });
  }
  const rest = parts.join('');
  parts = [];
  if (rest !== '') yield rest;
}
