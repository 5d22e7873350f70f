import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import type { Files } from '../runtime/platform.js';
import { decodeText, readBytes } from './read-bytes.js';

/** A file that one run adds lines to and the next one resumes from. */
export interface LineFile {
  /** Contents of an earlier run; empty for a new file. */
  readonly content: string;
  /** Keeps the first bytes, whose lines are whole; with none of them the file begins with `header`. To be called once, first. */
  start(completeBytes: number, header: string): Promise<void>;
  add(lines: string): Promise<void>;
}

/** @param what It holds, for messages. @throws OptionError when the file cannot be read; its methods when it cannot be written. */
export async function openLineFile(files: Files, path: string, what: string): Promise<LineFile> {
  const target = files.resolve(path);
  const bytes = await readBytes(files, target).catch((cause) => {
    throw new OptionError(`Cannot read the ${what} ${path}: ${errorMessage(cause)}.`, { cause });
  });
  let fileBytes = bytes?.byteLength ?? 0;
  const put = async (text: string, start: number) => {
    fileBytes = await files.append(target, { text, start, expectedBytes: fileBytes });
  };
  return {
    content: bytes === undefined ? '' : decodeText(bytes),
    start: (completeBytes, header) => put(completeBytes === 0 ? header : '', completeBytes),
    add: (lines) => put(lines, fileBytes),
  };
}
