import { constants, open } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { ModelFormatError } from '../errors.js';
import { MAX_TEXT_BYTES } from '../runtime/platform.js';
import { hasCode } from './system-error.js';

/** Timeout of a silent pipe. */
const SILENT_MS = 30_000;

/** Polling interval of a silent pipe. */
const POLL_MS = 10;

/**
 * Reads a pipe to its end. It is opened without waiting for a writer, which might never come.
 * @throws ModelFormatError after a timeout without data, or for too much data.
 */
export async function readPipe(path: string, silentMs = SILENT_MS): Promise<Uint8Array> {
  const pipe = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const pieces: Uint8Array[] = [];
  let byteLength = 0;
  let lastDataAt = performance.now();
  try {
    while (true) {
      const { bytesRead, buffer } = await pipe.read(Buffer.alloc(2 ** 16)).catch(emptyIfWaiting);
      byteLength += bytesRead;
      if (byteLength > MAX_TEXT_BYTES) throw new ModelFormatError(`${path} has more than ${MAX_TEXT_BYTES} bytes.`);
      if (bytesRead > 0) {
        pieces.push(buffer.subarray(0, bytesRead));
        lastDataAt = performance.now();
      } else if (buffer.length > 0 && byteLength > 0) return Buffer.concat(pieces);
      else if (performance.now() - lastDataAt > silentMs)
        throw new ModelFormatError(`${path} is a pipe that gave no data for ${silentMs / 1000} s.`);
      else await setTimeout(POLL_MS);
    }
  } finally {
    await pipe.close();
  }
}

/** An empty read if a writer exists that has written nothing yet. @throws other errors */
function emptyIfWaiting(cause: unknown): { readonly bytesRead: number; readonly buffer: Buffer } {
  if (hasCode(cause, 'EAGAIN')) return { bytesRead: 0, buffer: Buffer.alloc(0) };
  throw cause;
}
