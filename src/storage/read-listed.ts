import { ModelFormatError } from '../errors.js';
import { MANIFEST } from '../runtime/folder-manifest.js';
import type { Files } from '../runtime/platform.js';
import { isPlainPath } from './hub-client.js';
import { readJsonFile } from './read-json.js';

/** A file that a run wrote into a folder. */
export interface ListedFile {
  /** Relative to the folder, with `/`. */
  readonly path: string;
  readonly byteLength: number;
}

/**
 * Lists the files of a folder's manifest.
 * @param root the folder's path
 * @param folder the path as given by the user, for messages
 * @returns undefined if it has no manifest
 * @throws ModelFormatError for a file that is missing, has another size or is outside the folder.
 */
export async function readListed(files: Files, root: string, folder: string): Promise<ListedFile[] | undefined> {
  const manifest = await readJsonFile(files, files.resolve(root, MANIFEST));
  if (manifest === undefined) return undefined;
  const entries = Array.isArray(manifest.files) ? (manifest.files as unknown[]) : [];
  const real = await files.real(root);
  const listed: ListedFile[] = [];
  for (const entry of entries) {
    const { path, byteLength } = Object(entry) as { readonly path?: unknown; readonly byteLength?: unknown };
    if (typeof path !== 'string' || !isPlainPath(path))
      throw new ModelFormatError(`${folder}/${MANIFEST} lists ${JSON.stringify(path)}, which is not a path inside it.`);
    const target = files.resolve(root, path);
    if (files.relative(real, await files.real(target)) === undefined)
      throw new ModelFormatError(`${folder}/${path} is a link out of the folder. Replace it by the file.`);
    const source = await files.open(target);
    await source?.close();
    if (source === undefined || (byteLength !== undefined && source.byteLength !== byteLength))
      throw new ModelFormatError(
        `${folder}/${path} is not as it was written: ${source === undefined ? 'it is missing' : `it has ${source.byteLength} bytes, not ${byteLength}`}. Write the folder again.`,
      );
    listed.push({ path, byteLength: source.byteLength });
  }
  return listed;
}
