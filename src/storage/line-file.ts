import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import type { Files } from '../runtime/platform.js';
import { decodeText, readBytes } from './read-bytes.js';

/** A file to which one run adds lines, and from which the next one resumes. */
export interface LineFile {
  /** Contents of an earlier run; empty for a new file. */
  readonly content: string;
  /** Truncates the file to its complete lines, or begins it with `header` if there are none. Must be called once, before `add`. */
  start(completeBytes: number, header: string): Promise<void>;
  add(lines: string): Promise<void>;
}

/** @param contents For messages. @throws OptionError when the file cannot be read; its methods when it cannot be written. */
export async function openLineFile(files: Files, path: string, contents: string): Promise<LineFile> {
  const target = files.resolve(path);
  const bytes = await readBytes(files, target).catch((cause) => {
    throw new OptionError(`Cannot read the ${contents} ${path}: ${errorMessage(cause)}.`, { cause });
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
