import { type DirectoryHandle, handleFolder } from './handle-folder.js';
import { type BlobLike, mapFolder } from './map-folder.js';
import type { WebFolder } from './web-folder.js';

/**
 * A folder that a page can pass: a map of files by path, a list of chosen files (by `webkitRelativePath` without the
 * name of the chosen folder), or the handle of a directory, picked or of the origin's private file system.
 */
export type WebPlace = Map<string, Uint8Array | BlobLike> | readonly ChosenFile[] | DirectoryHandle;

/** The part of `File` in use. */
export interface ChosenFile extends BlobLike {
  readonly name: string;
  readonly webkitRelativePath?: string;
}

/** A folder to read from, and to write into unless it is a list. */
export function openPlace(place: WebPlace): WebFolder {
  if (place instanceof Map) return mapFolder(place);
  if (!('getFileHandle' in place)) return mapFolder(new Map(place.map((file) => [pathOf(file), file])));
  return handleFolder(place);
}

function pathOf({ name, webkitRelativePath = '' }: ChosenFile): string {
  return webkitRelativePath.slice(webkitRelativePath.indexOf('/') + 1) || name;
}
