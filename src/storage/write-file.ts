import type { Files } from '../runtime/platform.js';
import { readPieces } from './read-bytes.js';

/** Writes a text file, UTF-8. @throws OptionError */
export function writeText(files: Files, path: string, text: string): Promise<void> {
  return writePieces(files, path, [new TextEncoder().encode(text)]);
}

/** Copies a file. @throws ModelFormatError when it cannot be read; OptionError when it cannot be written. */
export function copyFile(
  from: Files,
  path: string,
  to: { readonly files: Files; readonly path: string },
): Promise<void> {
  return writePieces(to.files, to.path, readPieces(from, path));
}

async function writePieces(
  files: Files,
  path: string,
  pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const sink = await files.create(path);
  try {
    for await (const piece of pieces) await sink.write(piece);
  } finally {
    await sink.close();
  }
}
