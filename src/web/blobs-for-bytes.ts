import { nextTask } from '../platform/web/next-task.js';

/** Taken at once, so that the page stays alive. */
const PIECE_BYTES = 4 * 2 ** 20;

/** A request whose maps hold blobs in place of bytes: those cross to a worker at no cost, and are read there as files are. */
export async function blobsForBytes(value: unknown): Promise<unknown> {
  if (value instanceof Map) {
    const blobs = new Map<unknown, unknown>();
    for (const [path, file] of value) blobs.set(path, file instanceof Uint8Array ? await blobOf(file) : file);
    return blobs;
  }
  if (Array.isArray(value)) return Promise.all(value.map(blobsForBytes));
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const entries = Object.entries(value).map(async ([name, part]) => [name, await blobsForBytes(part)] as const);
  return Object.fromEntries(await Promise.all(entries));
}

async function blobOf(bytes: Uint8Array): Promise<Blob> {
  const pieces: Blob[] = [];
  for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
    pieces.push(new Blob([bytes.slice(at, at + PIECE_BYTES)]));
    await nextTask();
  }
  return new Blob(pieces);
}
