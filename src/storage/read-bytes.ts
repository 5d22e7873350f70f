import { ModelFormatError } from '../errors.js';
import { type Files, MAX_TEXT_BYTES } from '../runtime/platform.js';

/** Size of the pieces in which files are read, to bound memory. */
const PIECE_BYTES = 2 ** 20;

/** Reads a file piece by piece. @throws ModelFormatError when there is none, or it cannot be read. */
export async function* readPieces(
  files: Files,
  path: string,
  { signal, pipes }: { readonly signal?: AbortSignal | undefined; readonly pipes?: boolean } = {},
): AsyncGenerator<Uint8Array> {
  const source = await files.open(path, pipes);
  if (source === undefined) throw new ModelFormatError(`Cannot read ${path}: there is no such file.`);
  try {
    for (let offset = 0; offset < source.byteLength; offset += PIECE_BYTES) {
      signal?.throwIfAborted();
      yield await source.read(offset, Math.min(PIECE_BYTES, source.byteLength - offset));
    }
  } finally {
    await source.close();
  }
}

/** Reads an entire text file; undefined when there is none. @throws ModelFormatError when it cannot be read, or is too long. */
export async function readBytes(files: Files, path: string, pipes = false): Promise<Uint8Array | undefined> {
  const source = await files.open(path, pipes);
  if (source === undefined) return undefined;
  try {
    const { byteLength } = source;
    if (byteLength <= MAX_TEXT_BYTES) return await source.read(0, byteLength);
    throw new ModelFormatError(`${path} has ${byteLength} bytes; at most ${MAX_TEXT_BYTES} are read.`);
  } finally {
    await source.close();
  }
}

/** Decodes UTF-8, including a byte order mark. */
export function decodeText(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}
