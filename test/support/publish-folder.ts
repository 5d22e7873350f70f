import { existsSync, renameSync, rmSync } from 'node:fs';

/** Gives a complete folder its final name; another process may have been quicker, and its folder stays then. */
export function publishFolder(staging: string, folder: string): string {
  try {
    renameSync(staging, folder);
  } catch (error) {
    rmSync(staging, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
  return folder;
}
