import { type FileHandle, open } from 'node:fs/promises';
import { hasCode } from './system-error.js';

/** Error codes of file systems without sync; `EPERM` and `EISDIR` occur for folders on Windows. */
const CANNOT_SYNC = ['ENOSYS', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP'];
const CANNOT_SYNC_FOLDER = [...CANNOT_SYNC, 'EPERM', 'EACCES', 'EISDIR', 'EBADF'];

/** Syncs a file to disk, if supported. */
export const syncFile = (file: FileHandle): Promise<void> => syncUnless(file, CANNOT_SYNC);

/** Syncs a folder's entries to disk, if supported. */
export async function syncFolder(path: string): Promise<void> {
  // Windows cannot open folders, and persists names itself.
  const folder = await open(path).catch(() => undefined);
  if (folder === undefined) return;
  try {
    await syncUnless(folder, CANNOT_SYNC_FOLDER);
  } finally {
    await folder.close();
  }
}

async function syncUnless(file: FileHandle, codes: readonly string[]): Promise<void> {
  try {
    await file.sync();
  } catch (error) {
    if (!codes.some((code) => hasCode(error, code))) throw error;
  }
}
