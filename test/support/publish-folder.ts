import { existsSync, renameSync, rmSync } from 'node:fs';

/** Gives a complete folder its final name, or keeps the folder of another process that was faster. */
export function publishFolder(staging: string, folder: string): string {
  try {
    renameSync(staging, folder);
  } catch (error) {
    rmSync(staging, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
  return folder;
}
