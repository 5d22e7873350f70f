import { type FileHandle, open } from 'node:fs/promises';
import { hasCode } from './system-error.js';

/** Of file systems that bring nothing to the disk when asked; `EPERM` and `EISDIR` are Windows' for folders. */
const CANNOT_SYNC = ['ENOSYS', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP'];
const CANNOT_SYNC_FOLDER = [...CANNOT_SYNC, 'EPERM', 'EACCES', 'EISDIR', 'EBADF'];

/** Brings a file to the disk, where its file system can. */
export const syncFile = (file: FileHandle): Promise<void> => syncUnless(file, CANNOT_SYNC);

/** Brings the names in a folder to the disk, where its file system can. */
export async function syncFolder(path: string): Promise<void> {
  // Windows opens no folders, and keeps names by itself.
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
